"""From a diffusers folder to a package, in bounded memory, the same bytes from the same folder.

Which weight is stored how, `storage.stored_as` says.

A package comes into being under another name and is put in place when it is whole.
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from diffusion.model_folder import ModelFolder, ModelFolderError, read_json, read_model_folder
from diffusion.packaging.manifest import (
    FILE_NAME,
    Manifest,
    Tensor,
    package_id,
    write_manifest,
)
from diffusion.packaging.shards import MAX_SHARD_BYTES, Piece, ShardWriter
from diffusion.packaging.source import (
    COMPONENTS,
    CONFIGS,
    TOKENIZER,
    Component,
    Weight,
    folder_weights,
    model_id,
    read_bytes,
)
from diffusion.packaging.storage import (
    DType,
    StorageError,
    as_matrix,
    encode,
    layout_of,
    stored_as,
)

PLAN_FILE: Final = "plan.json"
_BLOCK_WEIGHTS: Final = 2**20  # encoded at a time by one thread: some 40 MB of scratch
_MAX_THREADS: Final = 8
_OPTIONAL_FILES: Final = ("vocabulary.json",)

# (what is being done, how much is done, of how much)
Report = Callable[[str, int, int], None]
# (a weight, the type of its component) -> how it is stored
Storing = Callable[[Weight, DType], DType]


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """A plan that goes into a package. wgsl: each shader it names, and the SHA-256 of its text."""

    text: str
    wgsl: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Packed:
    manifest: Manifest
    package_id: str


def by_rule(weight: Weight, dtype: DType) -> DType:
    """As `storage.stored_as` says, and so as a plan expects it."""
    return stored_as(weight.name, weight.shape, dtype)


def pack_model(
    folder: Path,
    out: Path,
    dtypes: Mapping[Component, DType],
    *,
    plan: CompiledPlan | None = None,
    weights: Sequence[Weight] | None = None,
    storing: Storing = by_rule,
    max_shard: int = MAX_SHARD_BYTES,
    report: Report = lambda what, done, total: None,
) -> Packed:
    """Write a package of the model in `folder` into the folder `out`, replacing a package there.

    weights: what to store instead of the folder's own tensors, for a plan that wants them fused or
    turned; in the order of COMPONENTS. storing: which type each of them gets. Needs some 100 MB of
    memory a thread, whatever the model.

    Raises ModelFolderError for a folder that is no readable PRX pipeline or holds weights that
    cannot be stored, FileExistsError when `out` is something other than a package.
    """
    model = read_model_folder(folder)
    if out.exists() and any(out.iterdir()) and not (out / FILE_NAME).is_file():
        raise FileExistsError(f"{out} is there, and is no package")
    stored = folder_weights(folder) if weights is None else weights
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}-{secrets.token_hex(6)}")
    draft.mkdir()
    try:
        packed = _fill(draft, model, dtypes, plan, stored, storing, max_shard, report)
        _put_in_place(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return packed


def _fill(
    draft: Path,
    model: ModelFolder,
    dtypes: Mapping[Component, DType],
    plan: CompiledPlan | None,
    weights: Sequence[Weight],
    storing: Storing,
    max_shard: int,
    report: Report,
) -> Packed:
    folder = model.path
    identity = _identify(folder, report)
    writer = ShardWriter(draft, max_shard)
    files = {TOKENIZER: _write(writer, read_bytes(folder / TOKENIZER))}
    for name in _OPTIONAL_FILES:
        if (folder / name).is_file():
            files[name] = _write(writer, read_bytes(folder / name))
    if plan is not None:
        writer.cut()  # a new plan leaves the tokenizer's shards as they are
        files[PLAN_FILE] = _write(writer, plan.text.encode())
    tensors = _write_weights(writer, weights, dtypes, storing, report)
    manifest = Manifest(
        model_id=identity,
        dtypes={component: dtypes[component] for component in COMPONENTS},
        tensors=tensors,
        shards=tuple(writer.shards),
        files=files,
        configs={name: read_json(folder / name) for name in CONFIGS},
        about=_about(model),
        preview=model.preview,
        plan=None if plan is None else PLAN_FILE,
        wgsl={} if plan is None else dict(plan.wgsl),
    )
    data = write_manifest(manifest)
    (draft / FILE_NAME).write_bytes(data)
    return Packed(manifest, package_id(data))


def _identify(folder: Path, report: Report) -> str:
    total = sum(weight.nbytes for weight in folder_weights(folder))
    done = 0

    def on_read(count: int) -> None:
        nonlocal done
        done += count
        report("reading", done, total)

    return model_id(folder, on_read)


def _write_weights(
    writer: ShardWriter,
    weights: Sequence[Weight],
    dtypes: Mapping[Component, DType],
    storing: Storing,
    report: Report,
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    total = sum(_count(weight) for weight in weights)
    done = 0
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    component = None
    with ThreadPoolExecutor(threads) as pool:
        for weight in weights:
            if weight.component != component:
                writer.cut()  # variants that share a component share its shards
                component = weight.component
            dtype = storing(weight, dtypes[weight.component])
            try:
                pieces = _write_weight(writer, weight, dtype, pool, threads)
            except StorageError as error:
                raise ModelFolderError(f"{weight.component}: {weight.name}: {error}") from error
            tensors[f"{weight.component}/{weight.name}"] = Tensor(dtype, weight.shape, pieces)
            done += _count(weight)
            report(f"packing as {dtypes[weight.component]}", done, total)
    writer.close()
    return tensors


def _write_weight(
    writer: ShardWriter, weight: Weight, dtype: DType, pool: ThreadPoolExecutor, threads: int
) -> tuple[Piece, ...]:
    layout = layout_of(dtype, weight.shape)
    written = 0
    scales = bytearray()  # small enough to wait: a sixteenth of f16 at most
    writer.start()
    for values, scale in _encoded(weight, dtype, pool, threads):
        writer.write(values)
        written += len(values)
        scales += scale
    if layout.scales is not None:
        writer.write(bytes(layout.scales - written) + scales)
        written = layout.scales + len(scales)
    writer.write(bytes(layout.nbytes - written))
    return writer.finish()


def _encoded(
    weight: Weight, dtype: DType, pool: ThreadPoolExecutor, threads: int
) -> Iterator[tuple[bytes, bytes]]:
    """Blocks of rows in their order, as many in memory as there are threads."""
    rows, columns = as_matrix(weight.shape)
    step = max(1, _BLOCK_WEIGHTS // columns)

    def block(start: int) -> tuple[bytes, bytes]:
        return encode(weight.rows(start, min(start + step, rows)), dtype)

    starts = range(0, rows, step)
    for first in range(0, len(starts), threads):
        yield from pool.map(block, starts[first : first + threads])


def _write(writer: ShardWriter, data: bytes) -> tuple[Piece, ...]:
    writer.start()
    writer.write(data)
    return writer.finish()


def _count(weight: Weight) -> int:
    rows, columns = as_matrix(weight.shape)
    return rows * columns


def _about(model: ModelFolder) -> dict[str, Any]:
    """What p2pweb.json says, completed as this site completes it."""
    return {
        "title": model.title,
        "side_multiple": model.side_multiple,
        "min_side": model.min_side,
        "max_side": model.max_side,
        "default_width": model.default_width,
        "default_height": model.default_height,
        "default_steps": model.default_steps,
        "default_guidance": model.default_guidance,
        "latent_channels": model.latent_channels,
        "vae_scale": model.vae_scale,
        "text_dim": model.text_dim,
        "examples": list(model.examples),
    }


def _put_in_place(draft: Path, out: Path) -> None:
    """Several processes may do so at once; whichever is last stays, and each is whole."""
    while True:
        old = out.with_name(f".{out.name}-{secrets.token_hex(6)}")
        with contextlib.suppress(FileNotFoundError):
            out.rename(old)
        shutil.rmtree(old, ignore_errors=True)
        try:
            draft.rename(out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
