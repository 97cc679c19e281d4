"""One tab as a worker: the `work.` messages of its socket, as calls of the lease protocol.

- A tab holds at most one lease. Its messages name chunk and attempt; what does not name the lease
  that this very socket holds changes nothing and is answered with `work.lost`.
- An idle tab has said `work.claim` once. Whenever something opens in the room it is looked whether
  that is for it; whenever it holds a chunk, whether that is still its own (`rooms.board`). So a
  cancelled job ends within one step, without being asked.
- What comes as bytes is checked before it is stored (`genqueue.handing`). Three faults in a row
  and the tab is no worker any more.
- When the socket closes, everything goes back at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from channels.db import database_sync_to_async
from django.conf import settings
from django.db import DatabaseError, InterfaceError

from genqueue import departure, fairness, protocol, tabs
from genqueue.api.trust import spend_room_of
from genqueue.faults import Fault
from genqueue.partners import Partner
from genqueue.problems import Problem
from genqueue.protocol import Lease, LeaseLostError
from genqueue.shutting_out import network_hash
from genqueue.tabs import Standing
from rooms.board import Board, board_of
from rooms.messages import (
    MessageError,
    ToPage,
    WorkDismissed,
    WorkDone,
    WorkLost,
    WorkTensors,
    WorkWelcome,
    unknown_type,
    whole,
)
from rooms.uploads import Upload
from rooms.work_messages import at_hand_in, expected_bytes, lease_message, list_in, partners_in

if TYPE_CHECKING:
    from diffusion.tensors import Expected
    from genqueue.handing import InMemory  # with numpy and Pillow: only who needs them

log = logging.getLogger(__name__)

# What was open and not for this tab may be for it later: how often that is tried, and at last when
# a faster worker that it was left to has not come
TRY_AGAIN_SECONDS, TRY_AT_LAST_SECONDS = 0.3, fairness.RESERVED.total_seconds() + 0.1
# So soon asks who computes the image that an open chunk is of, and takes it. Of those whose sockets
# are here it is known when they have asked
KEPT_SECONDS = 1.0
STALLED_AFTER_SECONDS = 300  # without a step; the longest step or decoding of a slow device
MOST_FAULTS_IN_A_ROW = 3
LONGEST_DETAIL = 500
FAULTS_OF_TABS = (
    Fault.OUT_OF_MEMORY, Fault.MODEL_UNREADABLE, Fault.WORKER_LOST, Fault.COMPUTATION_FAILED,
)  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")


def _apart(function: Callable[P, T]) -> Callable[P, Any]:
    """In a thread of its own: encoding a picture is no reason for the database's to wait."""
    return sync_to_async(function, thread_sensitive=False)


class Socket(Protocol):
    async def say(self, message: ToPage, data: bytes = b"") -> None: ...
    async def is_worker(self, worker_id: UUID | None) -> None:
        """The tab is this worker from now on, or none any more."""


class TabWork:
    """Lives as long as its socket; `leave` ends it. A tab says in its hello what it is."""

    def __init__(self, room_id: str, client_id: str, address: str, socket: Socket) -> None:
        self.room_id = room_id
        self.client_id = client_id
        self.mesh = ""  # the id under which other tabs reach this one directly
        self._address = address
        self._socket = socket
        self._worker_id: UUID | None = None
        self._lease: Lease | None = None
        self._waits: InMemory | None = None  # it has said `work.claim`, and what it has at hand
        self._own_first: bool | None = None  # as it said last, once it was written
        self._direct: dict[str, Partner] = {}  # who gives what the tab was not sent, by tensor
        self._upload: Upload | None = None
        self._received = 0  # bytes that came with the lease
        self._faults = 0  # in a row
        self._step = 0  # the furthest that was reported of the chunk at hand
        self._progress_at = self._heard_at = 0.0
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._board: Board | None = None  # of its room, while it is a worker
        self._doubted = False  # whether it may compute, and what it holds
        self._asked = False  # to look, and not because something is open
        self._seen: frozenset[tuple[int, int]] = frozenset()  # what is open
        self._tried: frozenset[tuple[int, int]] = frozenset()
        self._tried_at = 0.0
        self._next_look: asyncio.TimerHandle | None = None
        self._attendant: asyncio.Task[None] | None = None

    # From the socket ---------------------------------------------------------------------------
    async def receive(self, command: str, message: dict[str, Any]) -> None:
        """A message `work.<command>`. Raises MessageError."""
        async with self._lock:
            await self._receive(command, message)

    async def _receive(self, command: str, message: dict[str, Any]) -> None:
        if command == "hello":
            await self._hello(message)
            return
        if self._worker_id is None and command != "goodbye":
            self._pass_over(message)
            raise MessageError("not-a-worker", "Say work.hello first.")
        match command:
            case "claim":
                await self._claim(message)
            case "fetch":
                await self._with_lease(message, partial(self._fetch, message))
            case "renew":
                await self._with_lease(message, self._renew)
            case "step" | "complete":
                await self._announced(command, message)
            case "fail":
                await self._with_lease(message, partial(self._fail, message))
            case "release":
                await self._with_lease(message, self._release)
            case "goodbye":
                await self._leave()
            case _:
                raise unknown_type()

    async def piece(self, data: bytes) -> None:
        """A binary message. Raises MessageError."""
        async with self._lock:
            upload = self._upload
            if upload is None or not upload.add(data):
                self._upload = None
                raise MessageError("unexpected-bytes", "No message has announced these bytes.")
            if upload.complete:
                self._upload = None
                await upload.finish()

    def hint(self) -> None:
        """Something may have changed."""
        if self._board is not None:
            self._board.hint()

    @property
    def waits_as(self) -> UUID | None:
        """The worker, where it has asked for a chunk and got none."""
        waits = self._waits is not None and self._lease is None and not self._asked
        return self._worker_id if waits else None

    def look_at(self, now: Standing) -> None:
        """The board was read: look, if that may concern this tab. It was read a moment ago, so
        what it says of this tab is asked once more before it counts."""
        lease = self._lease
        held = lease is None or (lease.chunk_id, lease.attempt, lease.worker_id) in now.leased
        if not held or self._worker_id not in now.ready:
            self._doubted = True
            self._news.set()
        elif lease is None and self._waits is not None:
            self._seen = now.open.union(now.kept)
            gap = self._tried_at + TRY_AGAIN_SECONDS - time.monotonic()
            if now.open and (gap <= 0 or not now.open <= self._tried):
                self._news.set()
            elif self._seen:
                self._look_in(gap if self._seen <= self._tried else KEPT_SECONDS)

    def _look_in(self, seconds: float) -> None:
        """Unless it looks sooner anyhow."""
        loop = asyncio.get_running_loop()
        if self._next_look is not None:
            if self._next_look.when() <= loop.time() + seconds:
                return
            self._next_look.cancel()
        self._next_look = loop.call_later(seconds, self._look_now)

    def _look_now(self) -> None:
        self._next_look = None
        self._news.set()

    async def beat(self) -> None:
        """The tab is alive; also when lost hints are found."""
        if self._worker_id is None or self._board is None:
            return
        self._board.check()
        now = time.monotonic()
        if now - self._heard_at < settings.HEARTBEAT_SECONDS - 1:
            return
        try:
            await database_sync_to_async(tabs.heard)(self._worker_id)
        except (DatabaseError, InterfaceError):
            log.exception("the next beat says it again")
        else:
            self._heard_at = now

    async def leave(self) -> None:
        """The socket is closed."""
        async with self._lock:
            try:
                await self._leave()
            except (DatabaseError, InterfaceError):
                log.exception("what a closed tab held runs out by itself")

    # Coming and going --------------------------------------------------------------------------
    async def _hello(self, message: dict[str, Any]) -> None:
        if self._worker_id is not None:
            raise MessageError("bad-message", "This tab is a worker already.")
        try:
            worker_id: UUID = await database_sync_to_async(self._admitted(message))()
        except Problem as problem:
            await self._say_dismissed(problem)
            return
        except (DatabaseError, InterfaceError):
            log.exception("a tab could not be admitted")
            detail = "The database did not answer: try again."
            await self._say_dismissed(Problem("later", HTTPStatus.SERVICE_UNAVAILABLE, detail))
            return
        self._worker_id = worker_id
        self._own_first = None
        self._faults = 0
        self._heard_at = time.monotonic()
        self._attendant = asyncio.create_task(self._attend(worker_id))
        self._board = board_of(self.room_id)
        self._board.enter(self)
        await self._socket.is_worker(worker_id)
        await self._socket.say(
            WorkWelcome(
                type="work.welcome",
                worker=str(worker_id),
                renew_seconds=settings.HEARTBEAT_SECONDS,
            )
        )

    def _admitted(self, message: dict[str, Any]) -> Callable[[], UUID]:
        """The call that makes it a worker. Raises MessageError; the call raises Problem."""
        try:
            hello = tabs.Hello(
                key=str(message.get("key")),
                device=str(message.get("device")),
                software=message.get("software") is True,
                packages=tuple(str(package) for package in list_in(message, "packages")),
                kernels=str(message.get("kernels", "")),
                own_first=message.get("own_first") is True,
            )
        except ValueError as error:
            raise MessageError("bad-message", str(error)) from None
        return partial(self._admit, hello)

    def _admit(self, hello: tabs.Hello) -> UUID:
        spend_room_of(self._address, self.room_id)
        return tabs.admit(self.room_id, self.client_id, hello, network_hash(self._address))

    async def _leave(self) -> None:
        worker_id, self._worker_id = self._worker_id, None
        self._lease = self._waits = self._upload = None
        if self._board is not None:
            self._board.leave(self)
            self._board = None
        if worker_id is None:
            return
        self._news.set()  # the attendant sees that it is over
        await database_sync_to_async(departure.worker_is_gone)(worker_id, crashed=False)
        await self._socket.is_worker(None)

    async def _dismiss(self, problem: Problem) -> None:
        await self._leave()
        await self._say_dismissed(problem)

    async def _say_dismissed(self, problem: Problem) -> None:
        await self._socket.say(
            WorkDismissed(type="work.dismissed", code=problem.code, detail=problem.detail)
        )

    # Waiting -----------------------------------------------------------------------------------
    async def _claim(self, message: dict[str, Any]) -> None:
        if self._lease is not None:
            raise MessageError("bad-message", "This tab holds a chunk already.")
        at_hand = at_hand_in(message)
        if isinstance(own_first := message.get("own_first"), bool):
            await self._put_own_first(own_first)
        self._waits, self._asked = at_hand, True
        self._news.set()

    async def _put_own_first(self, first: bool) -> None:
        if self._worker_id is None or first == self._own_first:
            return
        try:
            await database_sync_to_async(tabs.put_own_first)(self._worker_id, first)
        except (DatabaseError, InterfaceError):
            log.exception("the next claim says it again")
        else:
            self._own_first = first

    async def _attend(self, worker_id: UUID) -> None:
        """Looks, once for all news that come meanwhile, until the tab is no worker any more."""
        while True:
            await self._news.wait()
            self._news.clear()
            async with self._lock:
                if self._worker_id != worker_id:
                    return
                try:
                    await self._look(worker_id)
                except Exception:
                    log.exception("a tab could not be served; the next beat tries again")

    async def _look(self, worker_id: UUID) -> None:
        if self._doubted:
            self._doubted = False
            try:
                await database_sync_to_async(tabs.stand)(worker_id, self.client_id)
            except Problem as problem:
                await self._dismiss(problem)
                return
            if self._lease is not None:
                if not await database_sync_to_async(tabs.holds)(self._lease):
                    await self._lost(self._lease)
                return
            self._asked = True
        if self._lease is None and self._waits is not None:
            asked, self._asked = self._asked, False
            self._tried = frozenset() if asked else self._seen
            self._tried_at = time.monotonic()
            among = None if asked else self._seen
            lease = await database_sync_to_async(tabs.next_lease)(worker_id, among)
            if lease is not None:
                await self._hand_out(lease, self._waits)
            elif asked:
                self.hint()  # from now on it looks when something opens
            elif among:
                self._look_in(TRY_AT_LAST_SECONDS)

    async def _hand_out(self, lease: Lease, at_hand: "InMemory") -> None:
        from genqueue import files, handing
        from rooms import direct

        try:
            needed = await _apart(handing.needed)(lease, at_hand)
        except handing.ModelGoneError:
            await self._protocol(protocol.lack_model, lease)
            return
        except files.FileLostError as error:
            await self._protocol(protocol.fail, lease, Fault.FILE_LOST, str(error), error.name)
            self._asked = True
            self._news.set()
            return
        parcel = direct.Parcel()
        if needed:
            peers: dict[str, direct.Maker] = {}
            if self.mesh:  # nobody else stands in the database's line again, behind other claims
                peers = await database_sync_to_async(direct.peers_of)(lease, self.mesh)
            parcel = await _apart(direct.parcel)(needed, peers)
        self._lease, self._waits, self._received = lease, None, len(parcel.data)
        self._direct = parcel.givers
        self._step, self._progress_at = lease.start, time.monotonic()
        message = lease_message(lease, len(parcel.data))
        if parcel.direct:
            message["direct"] = parcel.direct
        await self._socket.say(message, parcel.data)

    async def _fetch(self, message: dict[str, Any], lease: Lease) -> None:
        """What another tab was to give, and did not. Each tensor once."""
        from genqueue import files, handing
        from rooms import direct

        names = frozenset(str(name) for name in list_in(message, "names"))
        if not names or not names <= {*self._direct}:
            raise MessageError("bad-message", "names: of tensors that were not sent.")
        self._direct = {name: one for name, one in self._direct.items() if name not in names}
        log.info("a tab was not given %s: %.80r", sorted(names), message.get("why"))
        try:
            data = await _apart(direct.tensors)(lease, names)
        except handing.ModelGoneError:
            await self._lacks_model(lease)
            return
        except files.FileLostError as error:
            self._lease = None
            await self._protocol(protocol.fail, lease, Fault.FILE_LOST, str(error), error.name)
            await self._say_lost(lease.chunk_id, lease.attempt)
            return
        self._received += len(data)
        await self._socket.say(
            WorkTensors(
                type="work.tensors",
                chunk=lease.chunk_id,
                attempt=lease.attempt,
                bytes=len(data),
            ),
            data,
        )

    # Holding a chunk -----------------------------------------------------------------------------
    def _named(self, message: dict[str, Any]) -> Lease | None:
        """The lease, when the message names it."""
        named = whole(message, "chunk"), whole(message, "attempt")
        lease = self._lease
        return lease if lease and named == (lease.chunk_id, lease.attempt) else None

    async def _with_lease(self, message: dict[str, Any], act: Callable[[Lease], Any]) -> None:
        lease = self._named(message)
        if lease is None:
            await self._say_lost(message["chunk"], message["attempt"])
            return
        await act(lease)

    async def _renew(self, lease: Lease) -> None:
        if not await self._ended_as_stalled(lease):
            await self._reported(lease, partial(protocol.renew, lease))

    async def _ended_as_stalled(self, lease: Lease) -> bool:
        """No lease is held by renewing it for ever, nor by reporting one step again and again."""
        if time.monotonic() - self._progress_at <= STALLED_AFTER_SECONDS:
            return False
        await self._end_with_fault(lease, Fault.WORKER_LOST, "No step came.", "stalled")
        return True

    async def _fail(self, message: dict[str, Any], lease: Lease) -> None:
        said = message.get("fault")
        fault = Fault(said) if said in FAULTS_OF_TABS else Fault.COMPUTATION_FAILED
        detail = str(message.get("detail", ""))[:LONGEST_DETAIL]
        storable = detail.encode("utf-8", "replace").decode().replace("\0", "")
        await self._end_with_fault(lease, fault, storable)

    async def _release(self, lease: Lease) -> None:
        """It rests: others may go on with what it has left. Who leaves nothing has no reason to."""
        if self._step == lease.start:
            raise MessageError("bad-message", "No step was left.")
        self._lease = None
        await self._protocol(protocol.release, lease)

    async def _lacks_model(self, lease: Lease) -> None:
        """The site has removed it meanwhile: the chunk goes back unharmed."""
        self._lease = None
        await self._protocol(protocol.lack_model, lease)
        await self._say_lost(lease.chunk_id, lease.attempt)

    async def _announced(self, command: str, message: dict[str, Any]) -> None:
        """Bytes will follow, or, for a mere step, not."""
        from genqueue import handing

        lease = self._named(message)
        nbytes = whole(message, "bytes") if "bytes" in message else 0
        if lease is None:
            self._pass_over(message)
            await self._say_lost(message["chunk"], message["attempt"])
            return
        try:
            expected = expected_bytes(command, message, lease)
        except handing.ModelGoneError:
            self._pass_over(message)
            await self._lacks_model(lease)
            return
        then = partial(self._arrived, message, expected)
        if not expected and not nbytes:
            await then(b"")
        elif handing.fits(expected, nbytes):
            self._expect(Upload(nbytes, then))
        else:
            self._pass_over(message)
            detail = f"{nbytes} bytes were announced."
            await self._end_with_fault(lease, Fault.RESULT_REFUSED, detail, "refused")

    def _pass_over(self, message: dict[str, Any]) -> None:
        """The bytes that follow this message are on their way already."""
        nbytes = whole(message, "bytes") if "bytes" in message else 0
        if nbytes:
            self._expect(Upload(nbytes, None))

    def _expect(self, upload: Upload) -> None:
        if self._upload is not None:
            raise MessageError("bytes-missing", "The bytes of an earlier message come first.")
        self._upload = upload

    async def _arrived(self, message: dict[str, Any], expected: "Expected", data: bytes) -> None:
        lease = self._named(message)
        if lease is None:
            await self._say_lost(message["chunk"], message["attempt"])
        elif message["type"] == "work.step":
            await self._report_step(lease, message, expected, data)
        else:
            await self._complete(lease, message, expected, data)

    async def _report_step(
        self, lease: Lease, message: dict[str, Any], expected: "Expected", data: bytes
    ) -> None:
        from diffusion.tensors import TensorError
        from genqueue import handing

        step = whole(message, "step")
        if lease.image_id is None or not lease.start < step <= lease.stop:
            raise MessageError("bad-message", f"This chunk is steps {lease.start}..{lease.stop}.")
        if step > self._step:
            self._step, self._progress_at = step, time.monotonic()
        elif await self._ended_as_stalled(lease):
            return
        try:
            latent, preview = await _apart(handing.step_of)(expected, data)
        except TensorError as error:
            await self._end_with_fault(lease, Fault.RESULT_REFUSED, str(error), "refused")
            return
        report = partial(protocol.checkpoint, lease, step, latent=latent, preview=preview)
        await self._reported(lease, report)

    async def _complete(
        self, lease: Lease, message: dict[str, Any], expected: "Expected", data: bytes
    ) -> None:
        from diffusion.tensors import TensorError
        from genqueue import handing

        seconds = handing.seconds_of(lease, message.get("seconds"))
        helped = (*partners_in(message, lease), *self._direct.values())
        try:
            result = await _apart(handing.result_of)(lease, expected, data)
        except TensorError as error:
            await self._end_with_fault(lease, Fault.RESULT_REFUSED, str(error), "refused")
            return
        handed_in = partial(
            protocol.complete, lease, result, seconds, self._received, len(data), helped
        )
        if await self._reported(lease, handed_in):
            self._lease = None
            self._faults = 0
            await self._socket.say(
                WorkDone(type="work.done", chunk=lease.chunk_id, attempt=lease.attempt)
            )

    # Endings -----------------------------------------------------------------------------------
    async def _reported(self, lease: Lease, report: Callable[[], object]) -> bool:
        """True when the queue took it."""
        try:
            await database_sync_to_async(report)()
        except LeaseLostError:
            await self._lost(lease)
        except (DatabaseError, InterfaceError):
            log.exception("the database failed under chunk %d of a tab", lease.chunk_id)
            self._lease = None
            await self._protocol(protocol.release, lease)
            await self._say_lost(lease.chunk_id, lease.attempt, "later")
        else:
            return True
        return False

    async def _protocol(self, call: Callable[..., T], *arguments: object) -> T | None:
        """A call that ends a lease, which may have ended already."""
        try:
            return await database_sync_to_async(call)(*arguments)  # type: ignore[no-any-return]
        except LeaseLostError:
            log.info("the lease had ended already")
        except (DatabaseError, InterfaceError):
            log.exception("a lease of a tab runs out by itself")
        return None

    async def _end_with_fault(
        self, lease: Lease, fault: Fault, detail: str, code: str = ""
    ) -> None:
        """code: of the `work.lost` that says so; none where the tab knows."""
        self._lease = None
        counts = await self._protocol(protocol.fail, lease, fault, detail)
        if code:
            await self._say_lost(lease.chunk_id, lease.attempt, code)
        if counts is False:
            return  # it has too little memory for this one, which says nothing of others
        self._faults += 1
        if self._faults >= MOST_FAULTS_IN_A_ROW:
            detail = "Nothing that this tab began came to a good end, so others do it now."
            await self._dismiss(Problem("too-many-faults", HTTPStatus.FORBIDDEN, detail))

    async def _lost(self, lease: Lease) -> None:
        self._lease = None
        await self._say_lost(lease.chunk_id, lease.attempt)

    async def _say_lost(self, chunk: int, attempt: int, code: str = "lost") -> None:
        await self._socket.say(
            WorkLost(type="work.lost", chunk=chunk, attempt=attempt, code=code)  # type: ignore[typeddict-item]
        )
