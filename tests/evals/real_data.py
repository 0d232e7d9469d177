"""Where the tests' real data lies.

The folder that OUROLOOP_DATA names, by default `../shared/data` beside the repository.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

DATA = Path(os.environ.get("OUROLOOP_DATA", Path(__file__).parents[2] / "../shared/data"))
GSM8K = DATA / "gsm8k"
MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")

needs_gsm8k = pytest.mark.skipif(
    not (GSM8K / "train_first_1000.jsonl").exists(),
    reason="no GSM8K files: point OUROLOOP_DATA at a folder with gsm8k/ in it",
)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (GSM8K / name).read_text(encoding="utf-8").splitlines()]
