"""The plan as typed values, and its reading from JSON that nobody vouches for.

`read_plan` refuses whatever it does not know: keys, types, names, sizes out of bounds, tensors
that are read before anything wrote them. See docs/plan.md for the meaning of each field.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from diffusion.packaging.storage import DTYPES, DType, layout_of
from diffusion.plan.expressions import ExpressionError, PlanError, parse

FORMAT: Final = "p2pweb-plan"
VERSION: Final = 1

MAX_BYTES: Final = 8 * 2**20  # of the JSON
MAX_DISPATCHES: Final = 8192
MAX_TENSORS: Final = 8192
MAX_BINDINGS: Final = 8  # storage buffers a stage in WebGPU's default limits
MAX_SIZES: Final = 16
MAX_AXES: Final = 4

Type = Literal["f32", "f16", "u32"]
Role = Literal["input", "output", "state", "inner"]
Access = Literal["read", "write"]
Use = Literal["device", "rows"]
Constant = bool | int | float
Size = int | str  # a number or an expression

TYPE_BYTES: Final[Mapping[Type, int]] = {"f32": 4, "f16": 2, "u32": 4}

_SHADER: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,9}")
_SYMBOL: Final = re.compile(r"[A-Z]")
_CONSTANT: Final = re.compile(r"[A-Z][A-Z0-9_]{1,39}")
_SIZE: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class Symbol:
    """A size that a plan leaves open: given by the host in a range, or computed from others."""

    smallest: int = 0
    largest: int = 0
    multiple: int = 1
    value: str | None = None


@dataclass(frozen=True)
class Weight:
    """A tensor that comes with the model. use "rows": the host picks rows, no device holds it."""

    shape: tuple[int, ...]
    type: DType
    use: Use = "device"

    @property
    def bytes(self) -> int:
        """In a package and in a device's buffer, which hold the same bytes: codes and scales."""
        return layout_of(self.type, self.shape).nbytes

    @property
    def row_type(self) -> Type:
        """How the host gives rows of it: as stored, but f32 for codes and scales."""
        return "f16" if self.type == "f16" else "f32"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a stage. buffer: for an inner one, the number of the pool buffer it lies in."""

    shape: tuple[Size, ...]
    type: Type
    role: Role
    buffer: int | None = None


@dataclass(frozen=True)
class Binding:
    tensor: str  # a tensor of the stage, or a weight
    access: Access


@dataclass(frozen=True)
class Dispatch:
    """One run of one shader. bindings[i] is @binding(i + 1); None binds sixteen zero bytes."""

    shader: str
    imports: tuple[str, ...]
    constants: Mapping[str, Constant]
    sizes: Mapping[str, Size]
    bindings: tuple[Binding | None, ...]
    workgroups: tuple[Size, Size, Size]


@dataclass(frozen=True)
class Segment:
    """Dispatches that run together on one worker, which needs their weights and no others."""

    name: str
    dispatches: tuple[Dispatch, ...]


@dataclass(frozen=True)
class Stage:
    """Segments in their order, over one set of tensors."""

    tensors: Mapping[str, Tensor]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Plan:
    symbols: Mapping[str, Symbol]
    weights: Mapping[str, Weight]
    stages: Mapping[str, Stage]
    host: Mapping[str, Any] = field(default_factory=dict)


def segment_weights(plan: Plan, segment: Segment) -> list[str]:
    """Names of the weights that a segment binds, each once, in order of use."""
    bound = (binding for dispatch in segment.dispatches for binding in dispatch.bindings)
    names = (binding.tensor for binding in bound if binding is not None)
    return list(dict.fromkeys(name for name in names if name in plan.weights))


def write_plan(plan: Plan) -> str:
    """The JSON of a plan, the same text for the same plan."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "host": dict(plan.host),
        "symbols": {name: _symbol_json(symbol) for name, symbol in plan.symbols.items()},
        "weights": {
            name: {"shape": list(weight.shape), "type": weight.type, "use": weight.use}
            for name, weight in plan.weights.items()
        },
        "stages": {name: _stage_json(stage) for name, stage in plan.stages.items()},
    }
    return json.dumps(document, indent=None, separators=(",", ":"), allow_nan=False)


def _symbol_json(symbol: Symbol) -> dict[str, Any]:
    if symbol.value is not None:
        return {"value": symbol.value}
    return {
        "smallest": symbol.smallest,
        "largest": symbol.largest,
        "multiple": symbol.multiple,
    }


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {
        "tensors": {
            name: {"shape": list(tensor.shape), "type": tensor.type, "role": tensor.role}
            | ({} if tensor.buffer is None else {"buffer": tensor.buffer})
            for name, tensor in stage.tensors.items()
        },
        "segments": [
            {
                "name": segment.name,
                "dispatches": [
                    {
                        "shader": dispatch.shader,
                        "imports": list(dispatch.imports),
                        "constants": dict(dispatch.constants),
                        "sizes": dict(dispatch.sizes),
                        "bindings": [
                            None if binding is None else [binding.tensor, binding.access]
                            for binding in dispatch.bindings
                        ],
                        "workgroups": list(dispatch.workgroups),
                    }
                    for dispatch in segment.dispatches
                ],
            }
            for segment in stage.segments
        ],
    }


def read_plan(text: str | bytes) -> Plan:
    """The plan in a JSON text. Raises PlanError for anything that is not exactly one."""
    if len(text) > MAX_BYTES:
        raise PlanError(f"{len(text)} bytes, at most {MAX_BYTES} are read")
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"not JSON: {error}") from error
    top = _object(
        document, "the plan", ("format", "version", "host", "symbols", "weights", "stages")
    )
    if top["format"] != FORMAT or top["version"] != VERSION or type(top["version"]) is not int:
        raise PlanError(f"{top['format']!r} version {top['version']!r}, not {FORMAT} {VERSION}")
    plan = Plan(
        symbols=_table(top["symbols"], "symbols", _SYMBOL, 16, _symbol),
        weights=_table(top["weights"], "weights", _NAME, MAX_TENSORS, _weight),
        stages=_table(top["stages"], "stages", _NAME, 16, _stage),
        host=_any_object(top["host"], "host"),
    )
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raise PlanError for parts that are each well formed and do not fit together."""
    count = sum(len(part.dispatches) for stage in plan.stages.values() for part in stage.segments)
    if count > MAX_DISPATCHES:
        raise PlanError(f"{count} dispatches, at most {MAX_DISPATCHES}")
    shared: dict[str, tuple[tuple[Size, ...], Type]] = {}
    for where, stage in plan.stages.items():
        both = stage.tensors.keys() & plan.weights.keys()
        if both:
            raise PlanError(f"{where}: {min(both)} is a weight and a tensor")
        _check_bindings(stage, plan.weights, where)
        for name, tensor in stage.tensors.items():
            kind = tensor.shape, tensor.type
            if tensor.buffer is None and shared.setdefault(name, kind) != kind:
                raise PlanError(f"{where} shares {name} with a stage where it is another")


def _check_bindings(stage: Stage, weights: Mapping[str, Weight], where: str) -> None:
    written = {name for name, tensor in stage.tensors.items() if tensor.role in ("input", "state")}
    names = [segment.name for segment in stage.segments]
    if len(set(names)) < len(names):
        raise PlanError(f"{where} has two segments of one name")
    for segment in stage.segments:
        for number, dispatch in enumerate(segment.dispatches):
            place = f"{where}, {segment.name}, dispatch {number} ({dispatch.shader})"
            _check_dispatch(dispatch, stage, weights, written, place)
    lacking = {name for name, tensor in stage.tensors.items() if tensor.role == "output"} - written
    if lacking:
        raise PlanError(f"{where} never writes {', '.join(sorted(lacking))}")


def _check_dispatch(
    dispatch: Dispatch,
    stage: Stage,
    weights: Mapping[str, Weight],
    written: set[str],
    place: str,
) -> None:
    homes: list[object] = []  # the buffer of each binding: a pool buffer's number, or a name
    written_homes: set[object] = set()
    for binding in dispatch.bindings:
        if binding is None:
            continue
        name = binding.tensor
        weight, tensor = weights.get(name), stage.tensors.get(name)
        if tensor is None and (weight is None or weight.use != "device"):
            raise PlanError(f"{place} binds {name}, which there is not")
        if binding.access == "write" and (tensor is None or tensor.role == "input"):
            raise PlanError(f"{place} writes {name}, which is given")
        if binding.access == "read" and tensor is not None and name not in written:
            raise PlanError(f"{place} reads {name} before it is written")
        homes.append(name if tensor is None or tensor.buffer is None else tensor.buffer)
        if binding.access == "write":
            written_homes.add(homes[-1])
    for home in written_homes:  # WebGPU: many readers or one writer
        if homes.count(home) > 1:
            raise PlanError(f"{place} binds the buffer of {home} twice and writes it")
    written.update(
        binding.tensor
        for binding in dispatch.bindings
        if binding is not None and binding.access == "write"
    )


def _symbol(value: object, where: str) -> Symbol:
    if isinstance(value, dict) and "value" in value:
        fields = _object(value, where, ("value",))
        if not isinstance(fields["value"], str):
            raise PlanError(f"{where} is no expression")
        return Symbol(value=cast(str, _size(fields["value"], where)))
    fields = _object(value, where, ("smallest", "largest", "multiple"))
    smallest, largest, multiple = (
        _whole(fields[key], where, 2**20) for key in ("smallest", "largest", "multiple")
    )
    if smallest > largest or multiple < 1:
        raise PlanError(f"{where} has an empty range")
    return Symbol(smallest, largest, multiple)


def _weight(value: object, where: str) -> Weight:
    fields = _object(value, where, ("shape", "type", "use"))
    shape = tuple(_whole(axis, where, 2**32) for axis in _list(fields["shape"], where, MAX_AXES))
    weight = Weight(
        shape,
        _choice(fields["type"], DTYPES, where),
        _choice(fields["use"], get_args(Use), where),
    )
    if weight.type in ("int8", "int4") and len(shape) < 2:
        raise PlanError(f"{where} is no matrix, and {weight.type}")
    if not 0 < weight.bytes <= 2**34:
        raise PlanError(f"{where} has {weight.bytes} bytes")
    return weight


def _stage(value: object, where: str) -> Stage:
    fields = _object(value, where, ("tensors", "segments"))
    return Stage(
        tensors=_table(fields["tensors"], f"{where} tensors", _NAME, MAX_TENSORS, _tensor),
        segments=tuple(
            _segment(segment, f"{where}, segment {number}")
            for number, segment in enumerate(_list(fields["segments"], where, 1024))
        ),
    )


def _tensor(value: object, where: str) -> Tensor:
    keys = ("shape", "type", "role")
    inner = isinstance(value, dict) and value.get("role") == "inner"
    fields = _object(value, where, (*keys, "buffer") if inner else keys)
    return Tensor(
        shape=tuple(_size(axis, where) for axis in _list(fields["shape"], where, MAX_AXES)),
        type=_choice(fields["type"], get_args(Type), where),
        role=_choice(fields["role"], get_args(Role), where),
        buffer=_whole(fields["buffer"], where, MAX_TENSORS) if inner else None,
    )


def _segment(value: object, where: str) -> Segment:
    fields = _object(value, where, ("name", "dispatches"))
    return Segment(
        name=_name(fields["name"], _NAME, where),
        dispatches=tuple(
            _dispatch(dispatch, f"{where}, dispatch {number}")
            for number, dispatch in enumerate(_list(fields["dispatches"], where, MAX_DISPATCHES))
        ),
    )


def _dispatch(value: object, where: str) -> Dispatch:
    fields = _object(
        value, where, ("shader", "imports", "constants", "sizes", "bindings", "workgroups")
    )
    workgroups = [_size(count, where) for count in _list(fields["workgroups"], where, 3)]
    if len(workgroups) != 3:
        raise PlanError(f"{where} has {len(workgroups)} workgroup counts")
    return Dispatch(
        shader=_name(fields["shader"], _SHADER, where),
        imports=tuple(_name(name, _SHADER, where) for name in _list(fields["imports"], where, 9)),
        constants=_table(fields["constants"], where, _CONSTANT, 32, _constant),
        sizes=_table(fields["sizes"], where, _SIZE, MAX_SIZES, _size),
        bindings=tuple(
            _binding(binding, where) for binding in _list(fields["bindings"], where, MAX_BINDINGS)
        ),
        workgroups=(workgroups[0], workgroups[1], workgroups[2]),
    )


def _binding(value: object, where: str) -> Binding | None:
    if value is None:
        return None
    pair = _list(value, where, 2)
    if len(pair) != 2:
        raise PlanError(f"{where} has a binding without access")
    return Binding(_name(pair[0], _NAME, where), _choice(pair[1], get_args(Access), where))


def _constant(value: object, where: str) -> Constant:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**31:
        return value
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 1e30:
        return value
    raise PlanError(f"{where} is no constant: {value!r:.40}")


def _size(value: object, where: str) -> Size:
    if isinstance(value, str):
        try:
            parse(value)
        except ExpressionError as error:
            raise PlanError(f"{where}: {error}") from error
        return value
    return _whole(value, where, 2**32)


def _whole(value: object, where: str, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        raise PlanError(f"{where}: {value!r:.40} is no whole number up to {largest}")
    return value


def _name(value: object, pattern: re.Pattern[str], where: str) -> str:
    if not isinstance(value, str) or len(value) > 120 or not pattern.fullmatch(value):
        raise PlanError(f"{where}: {value!r:.60} is no name here")
    return value


def _choice(value: object, choices: tuple[str, ...], where: str) -> Any:
    if value not in choices:
        raise PlanError(f"{where}: {value!r:.40} is none of {', '.join(choices)}")
    return value


def _table(
    value: object,
    where: str,
    names: re.Pattern[str],
    longest: int,
    read: Callable[[object, str], Any],
) -> dict[str, Any]:
    fields = _any_object(value, where)
    if len(fields) > longest:
        raise PlanError(f"{where} has {len(fields)} entries, at most {longest}")
    return {
        _name(name, names, where): read(entry, f"{where}, {name:.60}")
        for name, entry in fields.items()
    }


def _list(value: object, where: str, longest: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > longest:
        raise PlanError(f"{where}: not a list of at most {longest}")
    return value


def _any_object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PlanError(f"{where} is no object")
    return value


def _object(value: object, where: str, keys: tuple[str, ...]) -> dict[str, Any]:
    fields = _any_object(value, where)
    if fields.keys() != set(keys):
        odd = sorted(fields.keys() ^ set(keys))
        raise PlanError(f"{where} lacks or should not have {odd[0]!r:.60}")
    return fields


def _no_constant(name: str) -> float:
    raise PlanError(f"{name} is no number")
