"""SmolLM2-135M-Instruct for tests, where the cache of models holds it; tests fetch nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroloop.loop.models.package import in_cache

NAME = "smollm2-135m"
SMOLLM2 = in_cache(NAME) or Path("no-such-folder")
FETCH = (
    f"python -c \"from ouroloop.loop.models.sources import resolve_model; resolve_model('{NAME}')\""
)
needs_smollm2 = pytest.mark.skipif(
    not SMOLLM2.exists(), reason=f"{NAME} is not in the cache of models; `{FETCH}` fetches it"
)
