"""Where the problems lie: people's word problems, read and never committed."""

from __future__ import annotations

from pathlib import Path

from ..real_data import DATA
from .demonstrations import write_file

TRAIN = DATA / "wordproblems" / "asdiv_train.jsonl"
HELDOUT = DATA / "wordproblems" / "asdiv_heldout.jsonl"
SVAMP = DATA / "wordproblems" / "svamp_first_500.jsonl"
# Ordinary text: what people wrote as GSM8K's test questions, without any answer.
PROSE = DATA / "gsm8k" / "test_first_660.jsonl"


def problems(folder: Path) -> Path:
    """ASDiv's training problems with our demonstrations, made in `folder` once."""
    target = folder / "problems.jsonl"
    return target if target.exists() else write_file(TRAIN, target)
