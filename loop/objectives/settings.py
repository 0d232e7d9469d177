"""What the settings of TRL's trainers have in common: their names, and what a run sets itself.

Imports nothing heavy.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
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
# What a number may be, where not every one can be meant: in words, and the test.
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "learning_rate": ("a number of at least 0", lambda number: number >= 0),
    "num_train_epochs": ("a number above 0", lambda number: number > 0),
    "per_device_train_batch_size": ("a whole number of at least 1", lambda number: number >= 1),
    "gradient_accumulation_steps": ("a whole number of at least 1", lambda number: number >= 1),
    "weight_decay": ("a number of at least 0", lambda number: number >= 0),
    "warmup_steps": ("a number of at least 0", lambda number: number >= 0),
    "adam_beta1": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
    "adam_beta2": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
    "adam_epsilon": ("a number of at least 0", lambda number: number >= 0),
    "r": ("a whole number of at least 1", lambda number: number >= 1),
    "lora_alpha": ("a number above 0", lambda number: number > 0),
    "lora_dropout": ("a number from 0 to below 1", lambda number: 0 <= number < 1),
}


def wrong_settings(
    section: str,
    given: Mapping[str, Any],
    peft: Mapping[str, Any] | None,
    reserved: Mapping[str, str],
) -> list[str]:
    """One line per name or value that the section or `peft` may not hold, with a right one.

    Takes a tenth of a second. `reserved`: names of the section that Ouroloop sets itself -> why.
    """
    own = [name for name in given if name in reserved]
    wrong = [f"{section}.{name}: {reserved[name]}. Leave it out." for name in own]
    for where, names in ((section, given), ("peft", peft or {})):
        known = setting_types(where)
        for name in names:
            # Without the package nothing can be trained, and `ouroloop run` says so; a recipe may
            # still be read, as `ouroloop plan` does.
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                owner = DEFINED_IN[where][0][2]
                hint = f" Did you mean {near[0]!r}?" if near else ""
                wrong.append(f"unknown key '{where}.{name}': {owner} has no such field.{hint}")
        wrong += _wrong_values(where, {n: v for n, v in names.items() if n not in own})
    return wrong + _lossy_type(section, given, peft)


def _wrong_values(section: str, given: Mapping[str, Any]) -> Iterator[str]:
    """One line per value that is not the number or the switch that its field holds.

    Whatever else a field may hold, the trainer judges.
    """
    types = setting_types(section) or {}
    for name, value in given.items():
        kind = types.get(name, "").removesuffix(" | None")
        # LoraConfig calls it an int, and divides by it.
        kind = "float" if name == "lora_alpha" else kind
        meaning = {"int": "a whole number", "float": "a number", "bool": "true or false"}.get(kind)
        # None is the default of many a field, and a trainer takes it for others too.
        if meaning is None or (value is None and name not in RANGES):
            continue
        meaning, fits = RANGES.get(name, (meaning, lambda number: True))
        if not _is_of(kind, value) or not fits(value):
            hint = ""
            if isinstance(value, str) and "e" in value and kind == "float":
                hint = " YAML reads a number without a point as a text: write 2.0e-4 for 2e-4."
            yield f"{section}.{name}: got {value!r}; expected {meaning}.{hint}"


def _is_of(kind: str, value: Any) -> bool:
    """Whether a value is a finite number, or a switch."""
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    allowed = int if kind == "int" else int | float
    return isinstance(value, allowed) and math.isfinite(value)


def _lossy_type(
    section: str, given: Mapping[str, Any], peft: Mapping[str, Any] | None
) -> list[str]:
    """Why the type that the weights are to be loaded in cannot hold small updates, if so."""
    wanted = given.get("model_init_kwargs")
    if not isinstance(wanted, Mapping):
        return []
    dtype = wanted.get("dtype", wanted.get("torch_dtype", "float32"))
    if peft or dtype == "float32":
        return []
    return [
        f"{section}.model_init_kwargs: all weights would be trained in {dtype}, where an update"
        " smaller than its rounding is lost. Leave the type out: master weights are float32, and"
        f" {section}.bf16: true computes in bfloat16; or train an adapter (peft: auto)."
    ]


@cache
def setting_types(section: str) -> Mapping[str, str] | None:
    """All fields of the section's dataclass ("sft", "dpo" or "peft") -> their type as written.

    None where a package that defines them is not installed.
    """
    types: dict[str, str] = {}
    for package, file, owner in DEFINED_IN[section]:
        found = _fields(package, file, owner)
        if found is None:
            return None
        # The class itself comes first: its bases' types do not count where it has its own.
        types = {**found, **types}
    return types


def _fields(package: str, file: str, owner: str) -> dict[str, str] | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    # Read, not imported: importing trl takes seconds, and a wrong name should cost none.
    tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    body = next(
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner
    )
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


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
