"""What `auto` means: CUDA or MPS through torch, then a GPU through wgpu, then torch on the CPU."""

import json
import logging
import subprocess
from functools import cache
from typing import Final, Literal

from diffusion.backends.child_process import command, environment

log = logging.getLogger(__name__)

_PROBE: Final = "diffusion.backends.wgpu_probe"
_PROBE_SECONDS: Final = 20.0
_SOFTWARE: Final = "CPU"


@cache
def best_backend() -> Literal["torch", "wgpu"]:
    """The best that this machine has; found out once a process, in about the time that importing
    torch takes."""
    probe = subprocess.Popen(  # noqa: S603  (our own command)
        command(_PROBE),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with probe:
        if _torch_has_gpu():  # meanwhile
            probe.kill()
            return "torch"
        try:
            said, _ = probe.communicate(timeout=_PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("wgpu does not say which GPUs there are; it is left out")
            probe.kill()
            return "torch"
    return "wgpu" if probe.returncode == 0 and has_gpu(said) else "torch"


def has_gpu(said: bytes) -> bool:
    """Whether the probe's output names an adapter that is no processor in disguise."""
    return any(adapter["kind"] != _SOFTWARE for adapter in json.loads(said))


def _torch_has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
