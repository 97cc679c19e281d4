"""Manifests that must be refused, by Python's reader and by the browser's.

Each is a change to the document of a right one: `changed(document, change)`.
"""

import copy
from collections.abc import Callable
from typing import Any

GROUPED = "text_encoder/embed_tokens.weight"
VECTOR = "text_encoder/norm.weight"
FILE = "tokenizer/tokenizer.json"

Change = Callable[[dict[str, Any]], object]


def put(*path: str, value: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        inner = document
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


def with_tensor(**fields: object) -> Change:
    return lambda document: document["tensors"][GROUPED].update(fields)


HOSTILE: dict[str, Change] = {
    "another format": put("format", value="p2pweb-plan"),
    "another version": put("version", value=2),
    "a version that equals 1": put("version", value=True),
    "a variant of other dtypes": put("variant", value="f16"),
    "dtypes of one part only": put("dtypes", value={"vae": "int4"}),
    "dtypes of a fourth part": put("dtypes", "unet", value="int4"),
    "a model id that is no hash": put("model_id", value="../../etc"),
    "an upper case hash": lambda d: d["shards"][0].update(sha256="A" * 64),
    "a hash that is a path": lambda d: d["shards"][0].update(sha256="../" * 21 + "x"),
    "a hash and a line break": lambda d: d["shards"][0].update(sha256="a" * 64 + "\n"),
    "a shard of more than 16 MiB": lambda d: d["shards"][0].update(bytes=16 * 2**20 + 1),
    "an empty shard": lambda d: d["shards"][0].update(bytes=0),
    "a shard of half a byte": lambda d: d["shards"][0].update(bytes=0.5),
    "a shard of NaN bytes": lambda d: d["shards"][0].update(bytes=float("nan")),
    "a shard of text": lambda d: d["shards"][0].update(bytes="16"),
    "shards that are no list": put("shards", value={}),
    "too many shards": lambda d: d.update(shards=d["shards"][:1] * (2**16 + 1)),
    "a piece of no shard": with_tensor(pieces=[[99, 0, 16]]),
    "a piece before its shard": with_tensor(pieces=[[0, -256, 512]]),
    "a piece that is no list": with_tensor(pieces=[7]),
    "a piece of two numbers": with_tensor(pieces=[[0, 0]]),
    "no pieces": with_tensor(pieces=[]),
    "a piece beyond its shard": lambda d: d["tensors"][GROUPED]["pieces"][0].__setitem__(1, 2**26),
    "a piece that starts anywhere": lambda d: d["tensors"][GROUPED]["pieces"][0].__setitem__(1, 4),
    "fewer bytes than the shape needs": with_tensor(shape=[10**6, 48]),
    "a shape of nothing": with_tensor(shape=[0, 48]),
    "a negative shape": with_tensor(shape=[-448, -48]),
    "a shape of truth": with_tensor(shape=[True, 48]),
    "a huge shape": with_tensor(shape=[2**52, 2**52]),
    "a shape that counts to infinity": with_tensor(shape=[2**52] * 8),
    "many axes": with_tensor(shape=[1] * 7 + [448, 48]),
    "an unknown dtype": with_tensor(dtype="int2"),
    "a dtype that is a list": with_tensor(dtype=["int4"]),
    "a dtype that every object has": with_tensor(dtype="constructor"),
    "other groups": with_tensor(group=64),
    "scales elsewhere": with_tensor(scales=0),
    "a tensor of another part": lambda d: d["tensors"].update(x=d["tensors"][VECTOR]),
    "a tensor named as a path": lambda d: d["tensors"].update({"vae/../x": d["tensors"][VECTOR]}),
    "a tensor of a long name": lambda d: d["tensors"].update(
        {"vae/" + "x" * 200: d["tensors"][VECTOR]}
    ),
    "a file named as a path": lambda d: d["files"].update({"../x": d["files"][FILE]}),
    "a file from the root": lambda d: d["files"].update({"/x": d["files"][FILE]}),
    "a file of other bytes": lambda d: d["files"][FILE].update(bytes=1),
    "a plan that is not there": put("plan", value="plan.json"),
    "a plan that is a list": put("plan", value=[]),
    "a shader without hash": put("wgsl", value={"a.wgsl": None}),
    "configs that are no objects": put("configs", "vae/config.json", value=[]),
    "a preview that is a text": put("preview", value="x"),
}  # fmt: skip

NO_MANIFESTS = [
    b"", b"[]", b"null", b"\xff", b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000,
    b'{"format": "p2pweb-package"}',
]  # fmt: skip

OTHER_VARIANTS = ["", "f8", "f16-f16-f16", "int4-f16", "f16-", "..", "a-b-c"]


def changed(document: dict[str, Any], change: Change) -> dict[str, Any]:
    """The document after a change, itself left as it is."""
    made = copy.deepcopy(document)
    change(made)
    return made


def places(inner: object) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = (
        inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
    )
    return [place for key in keys for place in [(inner, key), *places(inner[key])]]
