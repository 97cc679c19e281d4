"""Why a backend cannot compute. Imports nothing, so that every process can tell them apart."""

from diffusion.plan.expressions import PlanError


class BackendError(RuntimeError):
    """The backend, not the request, is at fault; the message is a sentence for people."""


class NoAdapterError(BackendError):
    """There is no Vulkan, Metal or DX12 here that wgpu could use."""


class BackendDiedError(BackendError):
    """The child process that computed has ended. The next call starts another.

    The message has the last line that the child wrote to stderr; a note has what came before.
    """


class TooLargeError(PlanError, MemoryError):
    """A single tensor is more than this device can bind: only a smaller picture can help."""
