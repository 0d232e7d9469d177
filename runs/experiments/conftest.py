"""Experiments are tested on the scripted world of the loop's own tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "loop"))
