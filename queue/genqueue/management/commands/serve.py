"""`manage.py serve`: the whole product on one machine, in one command.

Brings the database up to date, listens, runs the site (Daphne) in this process and, without
REDIS_URL, one Celery worker in a process of its own. Ctrl-C or SIGTERM stops both.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
from typing import Any

from channels.routing import get_default_application
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from django.conf import settings
from django.core.management import BaseCommand, call_command
from twisted.internet import reactor
from twisted.internet.error import ReactorNotRunning

from genqueue import lan, site
from genqueue.supervisor import Supervisor


class Command(BaseCommand):
    help = "Serve the site and, without Redis, run its worker."
    requires_system_checks = ()

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
        parser.add_argument(
            "--lan",
            action="store_true",
            help="https on the local network, with a certificate made on the spot",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until there is a reactor to stop
        with contextlib.suppress(KeyboardInterrupt):
            self._serve(options)
        _leave()

    def _serve(self, options: dict[str, Any]) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        port: int = options["port"]
        if options["lan"]:
            addresses = lan.addresses()
            certificate = lan.certificate(settings.DATA_DIR / "lan", addresses)
            lan.allow(addresses, port)
            endpoints = [certificate.endpoint(port)]
            url = f"https://{addresses[0]}:{port}/"
        else:
            endpoints = build_endpoint_description_strings(host=options["host"], port=port)
            url = f"http://{options['host']}:{port}/"

        application = get_default_application()
        supervisor = Supervisor() if settings.EMBEDDED else None

        def listening() -> None:
            self._say_where(url, options["lan"])
            site.start_threads()
            if supervisor is not None:
                supervisor.start()

        server = Server(
            application=application,
            endpoints=endpoints,
            signal_handlers=False,
            ready_callable=listening,
            server_name="p2pweb",
            websocket_timeout=-1,  # a room page stays open for days
            application_close_timeout=2,
        )
        # From here on nothing may be raised: Twisted logs and forgets what its callbacks let go,
        # and some of them run before its own handlers are there.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reactor.callFromThread(_stop_reactor))
        try:
            server.run()
        finally:
            site.stop()
            if supervisor is not None:
                supervisor.stop()
        if server.abort_start:
            raise SystemExit(f"Could not listen on port {port}: is another server using it?")

    def _say_where(self, url: str, on_lan: bool) -> None:
        self.stdout.write(f"\nOpen {url}")
        if on_lan:
            self.stdout.write(lan.qr_code(url))
            self.stdout.write(
                "Others in the house can open it too. Their browser warns once about the\n"
                "certificate, because this machine made it itself."
            )
        self.stdout.write(
            f"Admin: {url}admin/ (make its user with: python manage.py createsuperuser)"
        )
        if not on_lan:
            self.stdout.write("For phones and others in the house: python manage.py serve --lan")
        self.stdout.flush()


def _stop_reactor() -> None:
    """As soon as it runs; a second signal changes nothing."""
    with contextlib.suppress(ReactorNotRunning):
        reactor.stop()  # type: ignore[misc]  # its stubs take it for a method of a class


def _leave() -> None:
    """Everything has been stopped. Threads of requests that were cut may wait for an event loop
    that has gone; at its end Python would wait for them, for ever."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
