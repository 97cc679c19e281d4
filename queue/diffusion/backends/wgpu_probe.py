"""The adapters that wgpu finds, as JSON: `python -m diffusion.backends.wgpu_probe`.

A process of its own, because asking loads the drivers, and a broken one ends who asks.
"""

import json

from diffusion.backends.frames import take_stdout
from diffusion.backends.wgpu_device import adapters


def main() -> None:
    stdout = take_stdout()
    found = [
        {"device": adapter.info["device"], "kind": adapter.info["adapter_type"]}
        for adapter in adapters()
    ]
    with stdout:
        stdout.write(json.dumps(found).encode() + b"\n")


if __name__ == "__main__":
    main()
