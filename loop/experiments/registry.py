"""Every study that the command line can name."""

from __future__ import annotations

from ouroloop.loop.errors import UserError
from ouroloop.loop.experiments.collapse import STUDY
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.reproductions.registry import REPRODUCTIONS


def study(name: str) -> Study:
    """A study or a reproduction's study by name.

    Raises:
        UserError: there is none.
    """
    if name == STUDY.name:
        return STUDY
    if name in REPRODUCTIONS:
        return REPRODUCTIONS[name]().study
    raise UserError(
        f"no study is called {name!r}. There are {', '.join([STUDY.name, *REPRODUCTIONS])}."
    )
