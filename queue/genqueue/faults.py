"""Why something could not be computed: a code for programs and a sentence for people.

What exactly happened, in the words of exceptions that may hold paths of the server, is for the log
and the admin (`Chunk.error`, `Job.error_detail`) and never leaves them.
"""

from collections.abc import Mapping
from enum import StrEnum


class Fault(StrEnum):
    OUT_OF_MEMORY = "out-of-memory"
    MODEL_UNREADABLE = "model-unreadable"
    FILE_LOST = "file-lost"
    WORKER_LOST = "worker-lost"
    COMPUTATION_FAILED = "computation-failed"
    RESULT_REFUSED = "result-refused"


SENTENCES: Mapping[str, str] = {
    Fault.OUT_OF_MEMORY: "This needs more memory than the worker has. A smaller picture may work.",
    Fault.MODEL_UNREADABLE: (
        "The worker could not read the model. Whoever runs this server finds the reason in its log."
    ),
    Fault.FILE_LOST: "A file to go on from was lost. Asking again starts anew.",
    Fault.WORKER_LOST: "Workers stopped again and again while they computed this.",
    Fault.COMPUTATION_FAILED: (
        "The worker could not compute this. Whoever runs this server finds the reason in its log."
    ),
    Fault.RESULT_REFUSED: "What workers handed in for this was damaged.",
}

# Of one lease that ended so: others may have gone on.
OF_ONE_LEASE: Mapping[str, str] = {
    Fault.OUT_OF_MEMORY: "It needs more memory than this worker has.",
    Fault.MODEL_UNREADABLE: "This worker could not read the model.",
    Fault.FILE_LOST: "A file to go on from was lost.",
    Fault.WORKER_LOST: "This worker stopped, or was not heard of any more.",
    Fault.COMPUTATION_FAILED: "This worker could not compute it.",
    Fault.RESULT_REFUSED: "What this worker handed in was damaged.",
}


def sentence(code: str) -> str:
    """For people, of a code that is stored; one of an older version is any failure."""
    return SENTENCES.get(code, SENTENCES[Fault.COMPUTATION_FAILED])


def of_one_lease(code: str) -> str:
    """The same of one lease that ended so."""
    return OF_ONE_LEASE.get(code, OF_ONE_LEASE[Fault.COMPUTATION_FAILED])
