"""Where real data lies: read, and never committed."""

from __future__ import annotations

import os
from pathlib import Path

# The folder that OUROLOOP_DATA names, beside the repository by default.
DATA = Path(os.environ.get("OUROLOOP_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
