"""The text of a dispatch's shader module: its constants, its imports and its file, joined.

Nothing else of a plan ever becomes code: constants are numbers and truth values under checked
names, and files are found by checked names in one folder.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from diffusion.plan.expressions import PlanError
from diffusion.plan.schema import Constant, Dispatch, Plan

_NAME: Final = re.compile(r"(shared/)?[a-z][a-z0-9_]*")

Read = Callable[[str], str]


def read_shader(folder: Path, name: str) -> str:
    """The text of `name`.wgsl; imports lie in "shared/". Raises PlanError when there is none."""
    if not _NAME.fullmatch(name):
        raise PlanError(f"{name!r} is no name of a shader")
    try:
        return (folder / f"{name}.wgsl").read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"there is no shader {name!r}") from error


def module_text(read: Read, dispatch: Dispatch) -> str:
    """The module of a dispatch. read: the text of a file by its name."""
    parts = [f"const {name} = {literal(value)};" for name, value in dispatch.constants.items()]
    parts += [read(f"shared/{name}") for name in dispatch.imports]
    parts.append(read(dispatch.shader))
    return "\n".join(parts)


def literal(value: Constant) -> str:
    """A constant as WGSL writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def shader_files(plan: Plan) -> list[str]:
    """The names of all files that a plan needs, sorted."""
    dispatches = [
        dispatch
        for stage in plan.stages.values()
        for segment in stage.segments
        for dispatch in segment.dispatches
    ]
    imports = {f"shared/{name}" for dispatch in dispatches for name in dispatch.imports}
    return sorted(imports | {dispatch.shader for dispatch in dispatches})


def shader_hashes(plan: Plan, folder: Path) -> dict[str, str]:
    """SHA-256 of each of those files, for a manifest: a plan means what its shaders say."""
    return {
        name: hashlib.sha256(read_shader(folder, name).encode()).hexdigest()
        for name in shader_files(plan)
    }
