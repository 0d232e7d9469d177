"""Independent implementations that the estimators are compared with.

They take seconds to import, so only a worker that runs such a test imports them. Being here puts
this folder on the path too: the folders below find `simulated_panel`.
"""

import importlib
import sys

import pytest


class WithoutTorch:
    """Finds no torch. (None in `sys.modules` would not do: scipy takes that for torch itself.)"""

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ImportError("not needed here")


@pytest.fixture(scope="session")
def skbio_alpha():
    """scikit-bio's diversities of one community."""
    with pytest.MonkeyPatch.context() as patch:
        # Its helpers for its own tests would load torch, for nothing that is used here.
        patch.setattr(sys, "meta_path", [WithoutTorch(), *sys.meta_path])
        return importlib.import_module("skbio.diversity.alpha")


@pytest.fixture(scope="session")
def statsmodels():
    """statsmodels, with its proportions and its corrections for many tests."""
    for name in ("api", "stats.multitest", "stats.proportion"):
        importlib.import_module(f"statsmodels.{name}")
    return sys.modules["statsmodels"]
