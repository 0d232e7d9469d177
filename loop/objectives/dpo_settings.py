"""What a recipe's `dpo:` may hold, and what DPOConfig is made from.

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives import settings
from ouroloop.loop.objectives.job import TrainingJob

REFERENCE = "the reference is the objective's option `reference`, and stays as it is"
RESERVED = {
    **settings.RESERVED,
    "padding_free": "TRL pads the batches of this trainer always",
    "precompute_ref_log_probs": (
        "the reference's log-probabilities are computed once, before the first step"
    ),
    "remove_unused_columns": "the rows hold what the trainer needs, and nothing else",
    "sync_ref_model": REFERENCE,
    "ref_model_mixup_alpha": REFERENCE,
    "ref_model_sync_steps": REFERENCE,
}
# TRL knows these; it looks at the name only at the first step, when all samples were paid for.
LOSS_TYPES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)
# Ten times DPOConfig's own default, which is meant for all weights.
LORA_LEARNING_RATE = 1e-5


def check_settings(dpo: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
    """Refuse names that DPOConfig or LoraConfig do not have, and values that cannot be meant.

    Raises:
        RecipeError: one line per wrong name or value, with the remedy.
    """
    wrong = settings.wrong_settings("dpo", dpo, peft, RESERVED)
    wrong += _wrong_losses(dpo)
    # Only numbers can be compared.
    if not wrong:
        wrong += _wrong_numbers(dpo)
    if "lm_head" in ((peft or {}).get("target_modules") or ()):
        wrong.append(
            "peft.target_modules: lm_head; TRL's DPO reads the output layer's own weights and would"
            " never train an adapter on it. Leave lm_head out."
        )
    if wrong:
        raise RecipeError("\n".join(wrong))


def _wrong_losses(dpo: Mapping[str, Any]) -> list[str]:
    given = dpo.get("loss_type", "sigmoid")
    losses = list(given) if isinstance(given, list | tuple) else [given]
    wrong = []
    for loss in losses:
        if loss not in LOSS_TYPES:
            near = difflib.get_close_matches(str(loss), LOSS_TYPES, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(LOSS_TYPES)}."
            wrong.append(f"dpo.loss_type: there is no loss {loss!r}. {hint}")
    weights = dpo.get("loss_weights")
    num_weights = len(weights) if isinstance(weights, list | tuple) else 1
    if weights is not None and num_weights != len(losses):
        wrong.append(
            f"dpo.loss_weights: got {num_weights}; expected one for each of the"
            f" {len(losses)} losses of dpo.loss_type."
        )
    if set(losses) == {"sft"}:
        wrong.append(
            "dpo.loss_type: sft alone learns nothing from what was rejected. Set `objective: sft`,"
            " or `loss_type: [sigmoid, sft]`."
        )
    return wrong


def _wrong_numbers(dpo: Mapping[str, Any]) -> list[str]:
    wrong = []
    beta = dpo.get("beta", 0.1)
    if beta <= 0:
        wrong.append(
            f"dpo.beta: got {beta!r}; expected a number above 0: the larger, the nearer the model"
            " stays to its reference (DPOConfig's default is 0.1)."
        )
    losses, smoothing = str(dpo.get("loss_type", "")), dpo.get("label_smoothing", 0.0)
    if "exo_pair" in losses and not smoothing:
        wrong.append("dpo.loss_type: exo_pair needs dpo.label_smoothing above 0, such as 0.001.")
    if "robust" in losses and not 0 <= smoothing < 0.5:
        wrong.append(
            f"dpo.label_smoothing: got {smoothing!r}; expected at least 0 and below 0.5: the share"
            " of flipped preferences (dpo.loss_type: robust)."
        )
    return wrong


def settings_for(job: TrainingJob, *, on_gpu: bool) -> dict[str, Any]:
    """DPOConfig's arguments. See `settings.arguments`.

    The reference's log-probabilities are computed before the first step, by the model that is about
    to be trained. TRL would otherwise load a second model from the checkpoint's folder, which is
    not the one that is trained where weights were blended or an adapter was merged.
    """
    fixed = {
        "precompute_ref_log_probs": True,
        # Else the rows' lengths would be gone when the trainer sorts by them.
        "remove_unused_columns": False,
    }
    return settings.arguments(job, on_gpu=on_gpu, lora_rate=LORA_LEARNING_RATE, fixed=fixed)
