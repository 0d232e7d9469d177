"""The names that a recipe's `sft:` and `peft:` may hold, and what SFTConfig is made from.

Imports nothing heavy.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from typing import Any

from ouroloop.loop.automatic import LORA_LEARNING_RATE
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.objectives.job import TrainingJob

# Section -> where its dataclass and its bases stand: (package, file, class).
DEFINED_IN = {
    "sft": (
        ("trl", "trainer/sft_config.py", "SFTConfig"),
        ("trl", "trainer/base_config.py", "_BaseConfig"),
        ("transformers", "training_args.py", "TrainingArguments"),
    ),
    "peft": (
        ("peft", "tuners/lora/config.py", "LoraConfig"),
        ("peft", "config.py", "PeftConfig"),
        ("peft", "config.py", "PeftConfigMixin"),
    ),
}

RESERVED = {
    "output_dir": "the run directory decides where the checkpoint goes",
    "seed": "the recipe's seed decides",
    "data_seed": "the recipe's seed decides",
    "report_to": "the run directory keeps the curves, and tracking shows them",
    "dataset_kwargs": "examples come tokenised",
    "dataset_text_field": "examples come tokenised",
    "chat_template_path": "examples come tokenised",
    "packing": (
        "TRL does not pack examples that come tokenised; padding_free: true puts the texts of a"
        " batch into one row instead, where they do not see each other"
    ),
    "truncation_mode": "examples are never truncated",
    "completion_only_loss": "the prompt is masked always",
    "assistant_only_loss": "only answers are learnt; dataset.learn_turns: all learns every turn",
}


def check_settings(sft: Mapping[str, Any], peft: Mapping[str, Any] | None) -> None:
    """Refuse names that SFTConfig or LoraConfig do not have, and those that Ouroloop sets itself.

    Takes a tenth of a second.

    Raises:
        RecipeError: one line per wrong name, with the nearest right one.
    """
    wrong = [f"sft.{name}: {RESERVED[name]}. Leave it out." for name in sft if name in RESERVED]
    for section, given in (("sft", sft), ("peft", peft or {})):
        known = setting_names(section)
        for name in given:
            # Without the package nothing can be trained, and `ouroloop run` says so; a recipe may
            # still be read, as `ouroloop plan` does.
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                owner = DEFINED_IN[section][0][2]
                hint = f" Did you mean {near[0]!r}?" if near else ""
                wrong.append(f"unknown key '{section}.{name}': {owner} has no such field.{hint}")
    wrong += _lossy_type(sft, peft)
    if wrong:
        raise RecipeError("\n".join(wrong))


def _lossy_type(sft: Mapping[str, Any], peft: Mapping[str, Any] | None) -> list[str]:
    """Why the type that the weights are to be loaded in cannot hold small updates, if so."""
    given = sft.get("model_init_kwargs") or {}
    dtype = given.get("dtype", given.get("torch_dtype", "float32"))
    if peft or dtype == "float32":
        return []
    return [
        f"sft.model_init_kwargs: all weights would be trained in {dtype}, where an update smaller"
        " than its rounding is lost. Leave the type out: master weights are float32, and sft.bf16:"
        " true computes in bfloat16; or train an adapter (peft: auto)."
    ]


@cache
def setting_names(section: str) -> Set[str] | None:
    """All fields of the section's dataclass ("sft" or "peft").

    None where a package that defines them is not installed.
    """
    names: set[str] = set()
    for package, file, owner in DEFINED_IN[section]:
        found = _fields(package, file, owner)
        if found is None:
            return None
        names.update(found)
    return frozenset(names)


def _fields(package: str, file: str, owner: str) -> list[str] | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    # Read, not imported: importing trl takes seconds, and a wrong name should cost none.
    tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner
    )
    return [
        node.target.id
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def settings_for(job: TrainingJob, *, on_gpu: bool) -> dict[str, Any]:
    """SFTConfig's arguments: defaults for this kind of machine, then the recipe's.

    Then what may not be otherwise.
    """
    defaults: dict[str, Any] = {
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        # Rows of like length together: less padding.
        "train_sampling_strategy": "group_by_length",
        # TRL's own default is bfloat16 on every GPU, whatever the weights are served in.
        "bf16": job.compute == "bfloat16",
    }
    if job.peft:
        defaults["learning_rate"] = LORA_LEARNING_RATE
    if not on_gpu:
        defaults |= {
            "use_cpu": True,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
        }
    fixed = {
        "output_dir": str(job.output.with_name("trainer")),
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "report_to": "none",
        # TRL would cut at 1,024 by default; what is too long was left out already.
        "max_length": None,
        "dataset_kwargs": {"skip_prepare_dataset": True},
    }
    # model_init_kwargs are for loading the model, which happens in saving.load_trainable.
    given = {key: value for key, value in job.sft.items() if key != "model_init_kwargs"}
    return defaults | given | fixed
