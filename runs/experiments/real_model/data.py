"""Where the problems lie: people's word problems, read and never committed."""

from __future__ import annotations

import os
from pathlib import Path

from .demonstrations import write_file

# The folder that OUROLOOP_DATA names, beside the repository by default.
DATA = Path(os.environ.get("OUROLOOP_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
TRAIN = DATA / "wordproblems" / "asdiv_train.jsonl"
HELDOUT = DATA / "wordproblems" / "asdiv_heldout.jsonl"
SVAMP = DATA / "wordproblems" / "svamp_first_500.jsonl"
# Ordinary text: what people wrote as GSM8K's test questions, without any answer.
PROSE = DATA / "gsm8k" / "test_first_660.jsonl"


def problems(folder: Path) -> Path:
    """ASDiv's training problems with our demonstrations, made in `folder` once."""
    target = folder / "problems.jsonl"
    return target if target.exists() else write_file(TRAIN, target)
