"""The arms: each a change of one recipe, small enough for two cores without bfloat16."""

from __future__ import annotations

import os
from typing import Any

from .data import HELDOUT

# float32 on a CPU without bfloat16 units, where bfloat16 is 500 times slower; a GPU sets bfloat16.
DTYPE = os.environ.get("OUROLOOP_STUDY_DTYPE", "float32")

# The bare question, as the demonstrations of the warm start answer it. What the critic is asked
# follows the loop's own templates (loop/stages/prompts.py), with the answer's form of this study.
PROMPTS: dict[str, Any] = {
    "draft": "{question}",
    "critique": (
        "Question: {question}\n\nSolution: {draft}\n\nCheck this solution. End with a line that"
        " says either: verdict: right, or: verdict: wrong"
    ),
    "revise": (
        "{question}\n\nA solution: {draft}\n\nA review of it: {critique}\n\nWrite the right"
        " solution."
    ),
    "direct": "{question}\n\nA solution: {draft}\n\nWrite the right solution.",
    "chat": True,
}

BASE: dict[str, Any] = {
    "model": "$warm",
    "rounds": 8,
    "engine": {
        "kind": "vllm",
        "dtype": DTYPE,
        "max_model_len": 512,
        "max_num_seqs": 128,
        "kv_cache_memory_bytes": 1_610_612_736,
    },
    "task": {
        "kind": "jsonl",
        "path": "$problems",
        "heldout_path": str(HELDOUT),
        "prompts": PROMPTS,
    },
    "sampling": {
        "problems_per_round": 96,
        "samples_per_problem": 4,
        "temperatures": [0.7],
        "max_tokens": 80,
    },
    "refine": {"critique": False, "revisions": 0},
    "filters": {"gold": True, "duplicates": "none", "per_problem": None},
    "dataset": {"policy": "replace", "replay_fraction": 0.0},
    # All weights, as in the first trial; `auto` would choose LoRA for a model of this size.
    "peft": None,
    "sft": {
        "learning_rate": 5.0e-5,
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "bf16": DTYPE == "bfloat16",
    },
    "probe": {
        "problems": 100,
        "family_problems": 0,
        "samples": 8,
        "baseline_samples": 32,
        "pass_at": 8,
        "majority": 8,
        "critiques": 0,
        "texts": 24,
        "audit_items": 0,
    },
    # The calculations over the question's numbers are the strategy; a swapped order is the same.
    "monitors": {"guard": False, "baselines": [0], "canonicaliser": "dataflow"},
    "tracking": {"mlflow": False},
}

GUARD: dict[str, Any] = {"monitors": {"guard": True}}
REAL_30: dict[str, Any] = {"dataset": {"replay_fraction": 0.3}}

ARMS: dict[str, dict[str, Any]] = {
    # T = 0.7 and the answer filter alone: what people run.
    "unguarded": {},
    "real_30": REAL_30,
    "guarded": GUARD,
    "guarded_30": {**GUARD, **REAL_30},
    # Critique and revision, and as many sampled tokens without: see `findings.py`.
    "critique": {
        "refine": {"critique": True, "revisions": 1, "max_critique_tokens": 48},
        "sampling": {"samples_per_problem": 2},
    },
    "no_critique": {"sampling": {"samples_per_problem": 5}},
    # Proves on a new machine that adapters are served too; run when named.
    "adapter": {
        "peft": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "sft": {"learning_rate": 5.0e-4},
    },
}

FURTHER = ("adapter",)
