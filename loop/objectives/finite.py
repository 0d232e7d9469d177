"""A training whose loss or weights are no longer finite numbers is rejected, with its cause."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import NotFiniteError


def watch(trainer: Any) -> None:
    """Stop `trainer` at the first logged loss or gradient norm that is not finite.

    Every later step would only spread it: one NaN in a gradient makes all weights NaN.
    """
    from transformers import TrainerCallback

    class StopAtNotFinite(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # By default transformers logs the mean of earlier losses in the place of a NaN.
            args.logging_nan_inf_filter = False

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any
        ) -> None:
            # Mixed precision in float16 looks for the largest safe scale by overflowing.
            watched = ("loss",) if args.fp16 else ("loss", "grad_norm")
            for name in watched:
                value = logs.get(name)
                if isinstance(value, int | float) and not math.isfinite(value):
                    raise NotFiniteError(_cause(name, float(value), logs, state))

    trainer.add_callback(StopAtNotFinite())


def _cause(name: str, value: float, logs: dict[str, Any], state: Any) -> str:
    what = {"loss": "the loss", "grad_norm": "the gradient's norm"}[name]
    found = f"{what} was {value} at step {state.global_step} of {state.max_steps}"
    details = [f"loss {logs['loss']:.4g}"] if name != "loss" and "loss" in logs else []
    details.append(f"learning rate {logs.get('learning_rate', math.nan):.3g}")
    before = [at["loss"] for at in state.log_history if at.get("step") == state.global_step - 1]
    if before and isinstance(before[0], int | float):
        details.append(f"loss one step before {before[0]:.4g}")
    return f"{found} ({', '.join(details)})"


def check_weights(tensors: dict[str, Any], file: Path) -> None:
    """Refuse a saved file in which a weight is NaN or infinite.

    Raises:
        NotFiniteError: names the tensors.
    """
    wrong = [
        f"{name} ({int((~tensor.isfinite()).sum())} of {tensor.numel()} values)"
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(tensor.isfinite().all())
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise NotFiniteError(
            f"the trained weights in {file.name} are not finite: {', '.join(wrong[:3])}{more}"
        )
