"""Muon: momentum, orthogonalised, for the matrices inside the blocks.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the
scale that lets it share AdamW's learning rate: J. Liu et al., "Muon is scalable for LLM training"
(2025). Matrices of one shape are treated together, since these are small and launches dominate.
"""

from __future__ import annotations

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Near the closest orthogonal matrix of each: [n, rows, columns], quintic Newton-Schulz."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    flat: torch.Tensor = x.mT if tall else x
    return flat.to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon over 2-D parameters; anything else belongs to AdamW."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
        for parameter in parameters:
            if parameter.ndim != 2:
                raise ValueError(f"Muon takes matrices, not {tuple(parameter.shape)}")
            groups.setdefault(tuple(parameter.shape), []).append(parameter)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__([{"params": group} for group in groups.values()], defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        del closure
        for group in self.param_groups:
            parameters = group["params"]
            gradients = torch.stack([parameter.grad for parameter in parameters])
            state = self.state[parameters[0]]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(gradients)
            momentum = state["momentum"].lerp_(gradients, 1 - group["momentum"])
            update = orthogonalise(gradients.lerp(momentum, group["momentum"]))
            scale = 0.2 * max(update.shape[1:]) ** 0.5
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, list(update.unbind()), alpha=-group["lr"] * scale)
