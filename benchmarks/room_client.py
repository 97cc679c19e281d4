"""What a page does, without a browser: posts jobs and hears of them on the room's WebSocket.

A WebSocket client in a few lines (RFC 6455, text frames only): enough for our own server.
"""

import base64
import http.client
import json
import os
import queue
import socket
import struct
import threading
import time

BEAT_SECONDS = 3
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class RoomSocket:
    """Keeps every message of a room with the moment at which it came (`time.time()`)."""

    def __init__(self, host, port, room):
        self.socket = socket.create_connection((host, port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /ws/rooms/{room}/ HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            f"Origin: http://{host}:{port}\r\n\r\n".encode()
        )
        self.stream = self.socket.makefile("rb")
        if b" 101 " not in self.stream.readline():
            raise RuntimeError("the server does not open a WebSocket")
        while self.stream.readline().strip():
            pass
        self.messages = queue.Queue()
        self.revision = 0
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self._listen), threading.Thread(target=self._beat)]
        for thread in self.threads:
            thread.start()

    def _listen(self):
        while True:
            head = self.stream.read(2)
            if len(head) < 2:
                return
            length = head[1] & 127
            if length >= 126:
                size, code = (2, ">H") if length == 126 else (8, ">Q")
                [length] = struct.unpack(code, self.stream.read(size))
            body = self.stream.read(length)
            arrived = time.time()
            kind = head[0] & 15
            if kind == TEXT:
                message = json.loads(body)
                self.revision = message.get("revision", self.revision)
                self.messages.put((arrived, message))
            elif kind == PING:
                self._send(PONG, body)
            elif kind == CLOSE:
                return

    def _beat(self):
        while not self.ended.wait(BEAT_SECONDS):
            beat = json.dumps({"type": "peer.beat", "revision": self.revision})
            self._send(TEXT, beat.encode())

    def _send(self, kind, body):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(body))
        self.socket.sendall(bytes([128 | kind, 128 | len(body)]) + mask + masked)

    def jobs_until(self, job_id, is_last, timeout):
        """(moment, the job as it is then) for every message about it, until `is_last(job)`."""
        end = time.monotonic() + timeout
        while True:
            arrived, message = self.messages.get(timeout=max(0.01, end - time.monotonic()))
            for job in message.get("jobs", []):
                if job["id"] == job_id:
                    yield arrived, job
                    if is_last(job):
                        return

    def close(self):
        self.ended.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.socket.close()


class Poster:
    """One kept-alive connection to the API, with one client's cookie."""

    def __init__(self, host, port, room):
        self.connection = http.client.HTTPConnection(host, port, timeout=60)
        self.path = f"/api/queue/{room}"
        self.headers = {"Content-Type": "application/json"}

    def post(self, wanted):
        self.connection.request("POST", self.path, json.dumps(wanted), self.headers)
        with self.connection.getresponse() as answer:
            job = json.load(answer)
            if answer.status != 201:
                raise RuntimeError(f"{answer.status}: {job}")
            if cookie := answer.headers["Set-Cookie"]:
                self.headers["Cookie"] = cookie.partition(";")[0]
            return job

    def get(self, path):
        self.connection.request("GET", path, headers=self.headers)
        with self.connection.getresponse() as answer:
            return answer.read()

    def close(self):
        self.connection.close()
