"""The plans of this site's models, with this site's shaders, as packages hold them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.conf import settings

from diffusion.model_folder import ModelFolder, ModelFolderError
from diffusion.packaging.manifest import variant_name
from diffusion.packaging.pack import CompiledPlan
from diffusion.packaging.source import COMPONENTS, Component
from diffusion.packaging.storage import DType
from diffusion.plan.compiler import compile_folder
from diffusion.plan.expressions import PlanError
from diffusion.plan.schema import write_plan
from diffusion.plan.shaders import shader_hashes
from diffusion.plan.weights import PlanWeight

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and the weights that it reads, part by part in the order of their use."""

    plan: CompiledPlan
    weights: Sequence[PlanWeight]


def planned(model: ModelFolder, dtypes: Mapping[Component, DType]) -> Planned | None:
    """The plan for packages of these types; None for a model that has no compiler.

    Its kernels read weights as the package stores them.
    """
    try:
        compiled = compile_folder(model, variant_name(dtypes))
        plan = CompiledPlan(
            write_plan(compiled.plan), shader_hashes(compiled.plan, settings.WGSL_DIR)
        )
    except (ModelFolderError, PlanError) as error:
        log.info("%s has no plan: %s", model.name, error)
        return None
    by_part = sorted(
        compiled.weights.values(), key=lambda weight: COMPONENTS.index(weight.component)
    )
    return Planned(plan, by_part)
