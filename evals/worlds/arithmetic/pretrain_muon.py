"""The optimizers of the small checkpoints: Muon for matrices, AdamW for the rest."""

from __future__ import annotations

import torch


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose matrix updates are made nearly orthogonal by five Newton-Schulz steps.

    Better than AdamW here, on one seed (LOG.md).

    In float32 and over stacks of equal matrices, because torch.optim.Muon computes in bfloat16,
    which takes ten times as long on this CPU. Source: Jordan et al. 2024, "Muon: an optimizer for
    hidden layers in neural networks".
    """

    def __init__(
        self,
        params: list[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "initial_lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for (rows, columns), parameters in by_shape.items():
                # Equal shapes are stacked: one iteration over all layers, not one each.
                updates = []
                for parameter in parameters:
                    average = self.state[parameter].setdefault(
                        "momentum", torch.zeros_like(parameter)
                    )
                    average.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(average, group["momentum"]))
                # An orthogonal update of a tall matrix has a small root mean square.
                scale = max(1.0, rows / columns) ** 0.5
                for parameter, update in zip(
                    parameters, _orthogonal(torch.stack(updates)), strict=True
                ):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        update, alpha=-group["lr"] * scale
                    )


def _orthogonal(matrices_NRC: torch.Tensor) -> torch.Tensor:
    """The matrices with all their singular values near 1: quintic Newton-Schulz iteration."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.transpose(1, 2) if tall else matrices_NRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    # The coefficients are those of Jordan et al.: steep at zero, so that five steps are enough.
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    if tall:
        return x.transpose(1, 2)
    return x


def optimizers_of(
    model: torch.nn.Module, learning_rate: float, muon_learning_rate: float
) -> list[torch.optim.Optimizer]:
    """AdamW for embeddings, head and norms; Muon for the matrices between."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    # Embeddings are looked up, not multiplied, so orthogonal updates mean nothing there.
    for name, parameter in model.named_parameters():
        (others if parameter.ndim < 2 or "embed" in name or "lm_head" in name else matrices).append(
            parameter
        )
    adamw = torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    for group in adamw.param_groups:
        group["initial_lr"] = learning_rate
    return [adamw, Muon(matrices, lr=muon_learning_rate)]
