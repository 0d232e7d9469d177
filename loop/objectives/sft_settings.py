"""What a recipe's `sft:` may hold, and what SFTConfig is made from.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives import settings
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.recipes.automatic import LORA_LEARNING_RATE

RESERVED = {
    **settings.RESERVED,
    "dataset_kwargs": "examples come tokenised",
    "dataset_text_field": "examples come tokenised",
    "chat_template_path": "examples come tokenised",
    "packing": (
        "TRL does not pack examples that come tokenised; padding_free: true puts the texts of a"
        " batch into one row instead, where they do not see each other"
    ),
    "completion_only_loss": "the prompt is masked always",
    "assistant_only_loss": "only answers are learnt; dataset.learn_turns: all learns every turn",
}


def check_settings(sft: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
    """Refuse names that SFTConfig or LoraConfig do not have, and those that Ouroloop sets itself.

    Numbers that cannot be meant, too.

    Raises:
        RecipeError: one line per wrong name or value, with a right one.
    """
    wrong = settings.wrong_settings("sft", sft, peft, RESERVED)
    if wrong:
        raise RecipeError("\n".join(wrong))


def settings_for(job: TrainingJob, *, on_gpu: bool) -> dict[str, Any]:
    """SFTConfig's arguments. See `settings.arguments`."""
    fixed = {"dataset_kwargs": {"skip_prepare_dataset": True}}
    return settings.arguments(job, on_gpu=on_gpu, lora_rate=LORA_LEARNING_RATE, fixed=fixed)
