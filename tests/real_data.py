"""The tests' real data, and what is skipped where it is absent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runs.experiments.real_data import DATA

GSM8K = DATA / "gsm8k"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

needs_gsm8k = pytest.mark.skipif(
    not (GSM8K / "train_first_1000.jsonl").exists(),
    reason="no GSM8K files: point OUROLOOP_DATA at a folder with gsm8k/ in it",
)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GSM8K / name).read_text(encoding="utf-8").splitlines()]
