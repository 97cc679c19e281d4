"""The plan that a device is tried with: one stage for each class of variants that has a choice.

Shapes are those of a middling model: few rows make tiles for half of a large GPU, many for all of
it several times, as in a real step. `python -m diffusion.plan.trial` prints the plan, which is
static/wgsl/trial.json, so that a browser has the same one.
"""

import sys
from typing import Final

from diffusion.plan import kernels
from diffusion.plan.builder import PlanBuilder, Recipe
from diffusion.plan.schema import Plan, write_plan

FILE_NAME: Final = "trial.json"
_HEAD_DIM: Final = 64


def trial_plan(
    few: tuple[int, int] = (512, 1792),
    many: tuple[int, int] = (4096, 2048),
    inner: int = 896,
    tokens: int = 1024,
    heads: int = 14,
) -> Plan:
    """Each stage has one segment and one dispatch; inputs and weights are any numbers.

    few, many: rows and columns of the products.
    """
    builder = PlanBuilder({}, "f16")
    for name, (rows, columns) in (("few", few), ("many", many)):
        weight = builder.weight(f"{name}.weight", (columns, inner), Recipe())
        stage = builder.stage(name)
        stage.segment(name)
        kernels.matmul(
            stage,
            stage.tensor(f"{name}.left", (rows, inner), "input"),
            weight,
            stage.tensor(f"{name}.out", (rows, columns), "output"),
            rows=rows,
            columns=columns,
            inner=inner,
        )
        stage.finish()
    stage = builder.stage("attention")
    stage.segment("attention")
    width = heads * _HEAD_DIM
    kernels.attention(
        stage,
        stage.tensor("attention.qkv", (1, tokens, 3 * width), "input"),
        stage.tensor("attention.out", (1, tokens, width), "output"),
        batch=1,
        length=tokens,
        heads=heads,
        kv_heads=heads,
        head_dim=_HEAD_DIM,
        scale=_HEAD_DIM**-0.5,
    )
    stage.finish()
    return builder.finish({})


if __name__ == "__main__":
    sys.stdout.write(write_plan(trial_plan()) + "\n")
