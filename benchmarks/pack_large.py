"""Packs a model as large as prx-1024 and measures what it takes.

    python benchmarks/pack_large.py [--dtypes int8,int4] [--folder FOLDER]

Without a folder one is made with the exact shapes of prx-1024-t2i-beta (transformer, T5Gemma-2B
encoder, Flux VAE) in f32: 15.4 GB of sparse files, which read as zeros and take no disk. Packing
costs the same whatever the numbers are. Each variant is packed with its plan by a process of its
own. Prints JSON: bytes in and out, seconds, peak resident memory in MB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--dtypes", default="f16,int8,int4", help="variants, by commas")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # variant, out
    options = parser.parse_args()
    if options.one:
        pack_one(options.folder, *options.one)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or hollow(Path(scratch) / "prx-1024")
        for variant in options.dtypes.split(","):
            with tempfile.TemporaryDirectory() as out:
                command = [
                    sys.executable, __file__, "--folder", str(folder), "--one", variant,
                    f"{out}/package",
                ]  # fmt: skip
                subprocess.run(command, check=True)


def hollow(path: Path) -> Path:
    from tests.diffusion.plan.hollow import write_hollow_prx

    return write_hollow_prx(path, "F32")


def pack_one(folder: Path, variant: str, out: str) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "p2pweb.settings")
    django.setup()
    from diffusion.model_folder import read_model_folder
    from diffusion.packaging.manifest import dtypes_of
    from diffusion.packaging.source import folder_weights
    from genqueue import packages

    source = sum(weight.nbytes for weight in folder_weights(folder))
    started = time.monotonic()
    model = read_model_folder(folder)
    packed = packages.pack(model, Path(out), dtypes_of(variant), lambda what, done, total: None)
    numbers = {
        "variant": variant,
        "planned": packed.manifest.plan is not None,
        "bytes_in": source,
        "bytes_out": sum(
            piece.nbytes for t in packed.manifest.tensors.values() for piece in t.pieces
        ),
        "shards": len(packed.manifest.shards),
        "manifest_bytes": (Path(out) / "manifest.json").stat().st_size,
        "seconds": round(time.monotonic() - started, 1),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(numbers), flush=True)


if __name__ == "__main__":
    main()
