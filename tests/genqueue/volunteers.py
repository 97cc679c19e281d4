"""Workers that people bring, honest and not, who compute nothing: honest ones say the same. And one
that computes."""

from dataclasses import dataclass

from diffusion.backends import Backend
from genqueue import comparing, files, protocol
from genqueue.check_models import Check
from genqueue.checks import Finding
from genqueue.kinds import WorkerKind
from genqueue.models import Job, Room, Worker
from genqueue.protocol import Lease
from genqueue.runner import Runner
from tests.cast import Person
from tests.genqueue.conftest import Hand, new_worker


def told(lease: Lease) -> bytes:
    """What every honest worker hands in."""
    given = files.read(lease.latent) if lease.latent else b"noise"
    said = files.read(lease.conditioning) if lease.kind == "denoise" else b""
    return b"%s %d..%d of (%s, %s)" % (lease.kind.encode(), lease.start, lease.stop, given, said)


@dataclass(frozen=True)
class Volunteer(Hand):
    """lies: hands in something else than `told`, as often as it is asked."""

    lies: bool = False

    def finish(self, lease: Lease, seconds: float = 0.5) -> Lease:
        lie = f"a lie of {self.id}".encode()
        protocol.complete(lease, lie if self.lies else told(lease), seconds)
        return lease


def volunteer(
    person: Person, kind: WorkerKind = WorkerKind.TAB, lies: bool = False, room: str = "kitchen",
    **columns: object,
) -> Volunteer:  # fmt: skip
    found, _new = Room.objects.get_or_create(pk=room)
    hand = new_worker(
        f"tab of {person.label}", kind=kind, room=found, client=person.client_id, **columns
    )
    return Volunteer(hand.id, lies)


def server(lies: bool = False) -> Volunteer:
    return Volunteer(new_worker("server").id, lies)


class Computing:
    """A worker that computes: `hand` leases, `backend` does the work."""

    def __init__(self, hand: Hand, backend: Backend) -> None:
        self.hand = hand
        self.runner = Runner(lambda: False)
        self.runner._open = ("tiny", backend.folder, backend)

    def do_next(self) -> bool:
        lease = self.hand.claim()
        if lease is None:
            return False
        self.runner.run(lease)
        return True


def compare_words(check: Check, computed: bytes, variant: str):
    """As `comparing.compare`: equal or not at all alike."""

    def finding(name: str) -> Finding:
        try:
            theirs = files.read(name)
        except OSError as error:
            raise comparing.NotComparableError(str(error)) from error
        return Finding(0.0 if theirs == computed else 1.0, 0.5)

    return finding(check.result), finding(check.second) if check.second else None


def work(*hands: Hand, rounds: int = 200) -> None:
    """All do what there is, in turns."""
    for _ in range(rounds):
        if not [lease for hand in hands if (lease := hand.do_next()) is not None]:
            return
    raise AssertionError("there is no end to it")


def states(job: Job) -> list[str]:
    return list(Check.objects.filter(job=job).order_by("pk").values_list("state", flat=True))


def row(hand: Hand) -> Worker:
    return Worker.objects.get(pk=hand.id)
