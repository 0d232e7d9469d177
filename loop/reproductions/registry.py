"""Every reproduction that the command line can name, in the order of REPRODUCTIONS.md."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from ouroloop.loop.reproductions.base import Reproduction

NAMES: tuple[str, ...] = (
    "magister",
    "rft",
    "orca",
    "constitutional",
    "self_consistency",
    "specialisation",
    "wrong_steps",
    "exposure_bias",
    "teacher_ceiling",
    "collapse",
)


def _build(name: str) -> Callable[[], Reproduction]:
    def build() -> Reproduction:
        made: Reproduction = import_module(f"ouroloop.loop.reproductions.{name}").REPRODUCTION
        return made

    return build


REPRODUCTIONS = {name: _build(name) for name in NAMES}
