"""The arms: the published loop on a chat model of 135 M parameters, guarded and not."""

from __future__ import annotations

import os
from typing import Any

from .data import HELPFUL, JUDGED, PRINCIPLES, RED_TEAM, SHOTS

# float32 on a CPU without bfloat16 units; a GPU sets bfloat16.
DTYPE = os.environ.get("OUROLOOP_STUDY_DTYPE", "float32")
MODEL = os.environ.get("OUROLOOP_STUDY_MODEL", "smollm2-135m")
# Another checkpoint or a server, http://127.0.0.1:8000/v1#name, for the arm `other_judge`.
JUDGE = os.environ.get("OUROLOOP_STUDY_JUDGE", "")

# At T = 1 a model of this size rambles: 2.7 nats a token, and a third of its answers are cut.
TEMPERATURE = 0.7

BASE: dict[str, Any] = {
    "model": MODEL,
    "rounds": 6,
    "engine": {
        "kind": "vllm",
        "dtype": DTYPE,
        # Not all worked dialogues have room beside a conversation; the first ones are left out.
        "max_model_len": 1536,
        "max_num_seqs": 64,
        "kv_cache_memory_bytes": 1_610_612_736,
    },
    "task": {
        "kind": "dataset",
        "sources": [
            {"path": str(RED_TEAM), "family": "red_team", "heldout_share": 0.4},
            {"path": str(HELPFUL), "family": "helpful", "num_problems": 150},
        ],
        "grader": "last_number",
        # What is cut is not learnt. Unasked, three in four of its answers to word problems have
        # more than 160 tokens; asked so, three in ten.
        "prompts": {
            "system": "Answer in at most three sentences.",
            "draft": "{question}",
            "chat": True,
        },
    },
    "sampling": {
        "problems_per_round": 40,
        "samples_per_problem": 2,
        "temperatures": [TEMPERATURE],
        "max_tokens": 160,
    },
    # As published: every draft is criticised by a drawn principle and revised, and the revisions
    # are learnt. A model of this size ends no critique in a verdict (LOG.md, 2026-11-29).
    "refine": {
        "form": "turns",
        "critique": True,
        "revisions": 1,
        "revise_when": "always",
        "constitution": str(PRINCIPLES),
        "shots": str(SHOTS),
        "families": ["red_team"],
        "max_critique_tokens": 96,
    },
    "filters": {
        "gold": False,
        "format": False,
        "critic": False,
        # As published, nothing is filtered; the arm `answers` leaves copies out.
        "copied_critique": None,
        "duplicates": "exact",
        "per_problem": None,
    },
    # Demonstrations would be answers that nobody should look at.
    "dataset": {"min_examples": 8, "replay_source": "baseline"},
    "sft": {"learning_rate": 2.0e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8},
    "probe": {
        "temperature": TEMPERATURE,
        "problems": 30,
        "family_problems": 30,
        "samples": 8,
        "baseline_samples": 16,
        "critiques": 0,
        "texts": 16,
        "audit_items": 0,
    },
    "judge": {
        "model": "baseline",
        "families": ["red_team"],
        "criteria": {"harmless": list(JUDGED)},
        "samples": 1,
        "max_tokens": 96,
        "items": "$items",
    },
    # The first two rounds are to change the red team's answers.
    "monitors": {
        "guard": False,
        "gold": False,
        "canonicaliser": "templates",
        "baselines": [0, 2],
        "texts_since": 2,
    },
    "tracking": {"mlflow": False},
}

ANSWERS: dict[str, Any] = {"monitors": {"guard": True}, "filters": {"copied_critique": 0.5}}

ARMS: dict[str, dict[str, Any]] = {
    "unguarded": {},
    "guarded": {"monitors": {"guard": True}},
    # Guarded, and a revision that repeats its critique is not learnt.
    "answers": ANSWERS,
    # The same, asked in the published form: one text with labels, in the place of further turns.
    "paper": {**ANSWERS, "refine": {"form": "paper"}},
    # Guarded, and after a call round 0's model drafts half of the answers.
    "taught": {"monitors": {"guard": True}, "interventions": {"teachers": 1}},
    # Further: watched by a judge that OUROLOOP_STUDY_JUDGE names.
    "other_judge": {"monitors": {"guard": True}, "judge": {"model": JUDGE or "baseline"}},
}
FURTHER = ("other_judge",)
