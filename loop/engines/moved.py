"""Where a run's inputs lie now, on a host where they do not lie where its recipe says.

`ouroloop resume RUN --moved OLD=NEW` puts it into the environment, where the children find it too.
What lies there is compared with what the run was started with, as after every resume.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ouroloop.loop.errors import RecipeError

VARIABLE = "OUROLOOP_MOVED"


def remember(moves: Sequence[str]) -> None:
    """From now on, OLD=NEW each.

    Raises:
        RecipeError: one is of another form.
    """
    for move in moves:
        old, sep, new = move.partition("=")
        if not (sep and os.path.isabs(old) and os.path.isabs(new)):
            raise RecipeError(
                f"--moved {move}: expected OLD=NEW, two absolute paths, for instance"
                " --moved /old/models=/new/models"
            )
    if moves:
        os.environ[VARIABLE] = os.pathsep.join(moves)


def moved(value: Any) -> Any:
    """A path, or every path in a mapping or list, as it is on this host; all else as it is."""
    if isinstance(value, dict):
        return {key: moved(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [moved(item) for item in value]
    if not isinstance(value, str):
        return value
    for move in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        old, _, new = move.partition("=")
        old = old.rstrip("/")
        if value == old or value.startswith(f"{old}/"):
            return new.rstrip("/") + value[len(old) :]
    return value
