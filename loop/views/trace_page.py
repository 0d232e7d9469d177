"""`ouroloop monitor --html`: the report's page of rounds that somebody else's loop made."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from ouroloop.loop.views.monitor import Watched
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.loop.views.report import write_page
from ouroloop.monitors.base import RoundView
from ouroloop.monitors.follower import Judged

# By looking, so that a table which RoundData gets some day is emptied here too. These are made of
# other attributes and read no file.
DERIVED = ("_by_estimand", "decided", "view")
TABLES = [
    name
    for name, found in vars(RoundData).items()
    if isinstance(found, cached_property) and name not in DERIVED
]


def write_trace_page(watched: Watched, name: str, out: Path) -> Path:
    """Write the page of these rounds to `out` and return it.

    Args:
        watched: what was read and judged.
        name: of the loop, for the title.
        out: an HTML file.
    """
    rounds = tuple(
        _round(view, judged, watched.rule.main_family, Path(source))
        for view, judged, source in zip(
            watched.traces.views, watched.rounds, watched.traces.sources, strict=True
        )
    )
    # Decisions are recorded and nobody carries them out: an unguarded run that has finished.
    recipe = {"name": name, "monitors": {"guard": False}}
    events = ({"event": "run_finished"},)
    run = RunData(Path(watched.traces.sources[0]).parent, recipe, {}, events, rounds, None)
    return write_page([run], out)


def _round(view: RoundView, judged: Judged, main: str, source: Path) -> RoundData:
    """A round whose tables come from its samples; those of a loop of ours are empty."""
    import pandas as pd

    acts = judged.decision.action != "continue"
    decision = {**judged.decision.to_json(), "carried_out": not acts}
    found = RoundData(judged.decision.round, source, main, {}, decision, {}, {}, judged.readings)
    names = ("problem", "family", "correct", "strategy", "cluster", "text")
    probe = pd.DataFrame({name: getattr(view.probe, name) for name in names})
    # There are no files to read any table from: all but the samples are empty.
    empty = {name: pd.DataFrame() for name in TABLES}
    # A cached_property keeps its value in the instance: what stands there is never computed.
    vars(found).update(empty | {"probe": probe.assign(kind="sample")})
    return found
