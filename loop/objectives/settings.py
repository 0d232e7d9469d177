"""What the settings of TRL's trainers have in common: their names, and what a run sets itself.

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

from ouroloop.loop.objectives.job import TrainingJob

# Logits held at once, at most (1 GiB in float32; the backward pass holds three of that size).
# A batch with more is left to TRL, which goes through the vocabulary in chunks.
MOST_LOGITS = 2**28
BASE = (
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("transformers", "training_args.py", "TrainingArguments"),
)
# Section -> where its dataclass and its bases stand: (package, file, class).
DEFINED_IN = {
    "sft": (("trl", "trainer/sft_config.py", "SFTConfig"), *BASE),
    "dpo": (("trl", "trainer/dpo_config.py", "DPOConfig"), *BASE),
    "peft": (
        ("peft", "tuners/lora/config.py", "LoraConfig"),
        ("peft", "config.py", "PeftConfig"),
        ("peft", "config.py", "PeftConfigMixin"),
    ),
}

# What no trainer's section may hold -> why.
RESERVED = {
    "output_dir": "the run directory decides where the checkpoint goes",
    "seed": "the recipe's seed decides",
    "data_seed": "the recipe's seed decides",
    "report_to": "the run directory keeps the curves, and tracking shows them",
    "truncation_mode": "examples are never truncated",
}


def wrong_names(
    section: str,
    given: Mapping[str, Any],
    peft: Mapping[str, Any] | None,
    reserved: Mapping[str, str],
) -> list[str]:
    """One line per name that the section or `peft` may not hold, with the nearest right one.

    Takes a tenth of a second. `reserved`: names of the section that Ouroloop sets itself -> why.
    """
    own = [name for name in given if name in reserved]
    wrong = [f"{section}.{name}: {reserved[name]}. Leave it out." for name in own]
    for where, names in ((section, given), ("peft", peft or {})):
        known = setting_names(where)
        for name in names:
            # Without the package nothing can be trained, and `ouroloop run` says so; a recipe may
            # still be read, as `ouroloop plan` does.
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                owner = DEFINED_IN[where][0][2]
                hint = f" Did you mean {near[0]!r}?" if near else ""
                wrong.append(f"unknown key '{where}.{name}': {owner} has no such field.{hint}")
    return wrong + _lossy_type(section, given, peft)


def _lossy_type(
    section: str, given: Mapping[str, Any], peft: Mapping[str, Any] | None
) -> list[str]:
    """Why the type that the weights are to be loaded in cannot hold small updates, if so."""
    wanted = given.get("model_init_kwargs") or {}
    dtype = wanted.get("dtype", wanted.get("torch_dtype", "float32"))
    if peft or dtype == "float32":
        return []
    return [
        f"{section}.model_init_kwargs: all weights would be trained in {dtype}, where an update"
        " smaller than its rounding is lost. Leave the type out: master weights are float32, and"
        f" {section}.bf16: true computes in bfloat16; or train an adapter (peft: auto)."
    ]


@cache
def setting_names(section: str) -> Set[str] | None:
    """All fields of the section's dataclass ("sft", "dpo" or "peft").

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


def arguments(
    job: TrainingJob, *, on_gpu: bool, lora_rate: float, fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """A trainer's arguments: defaults for this kind of machine, then the recipe's.

    Then what may not be otherwise: `fixed`, and what the job says. lora_rate: the learning rate of
    an adapter, unless the recipe names one.
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
        defaults["learning_rate"] = lora_rate
    if not on_gpu:
        defaults |= {
            "use_cpu": True,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": False,
        }
    always = {
        "output_dir": str(job.output.with_name("trainer")),
        "seed": job.seed % 2**32,
        "data_seed": job.seed % 2**32,
        "report_to": "none",
        # TRL would cut at 1,024 by default; what is too long was left out already.
        "max_length": None,
    }
    # model_init_kwargs are for loading the model, which happens in saving.load_trainable.
    given = {key: value for key, value in job.settings.items() if key != "model_init_kwargs"}
    return defaults | given | always | dict(fixed)


def on_one_gpu(config: Any) -> Any:
    """A trainer's arguments for one process on one GPU, however many the process sees.

    Several GPUs are for several processes (`launcher: accelerate`).
    """
    # transformers would spread each batch over all visible GPUs by nn.DataParallel, which TRL 1.16
    # refuses (trl/trainer/sft_trainer.py): on such a machine nothing could be trained.
    if config.n_gpu > 1:
        config._n_gpu = 1
    return config
