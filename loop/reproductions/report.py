"""What a reproduction leaves behind.

Results.json, figure.svg and report.md in its folder, an MLflow run per arm, one page of them all.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import harness
from ouroloop.loop.experiments.goals import Goal, goal_table
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import arm_table
from ouroloop.loop.reproductions.base import Reproduction
from ouroloop.loop.trackers import mlflow_arms as tracking
from ouroloop.loop.views import figures
from ouroloop.monitors.estimators.stats import Estimate, mean

QUICK = (
    "The quick run: smaller, and one seed, so that nothing over seeds is known yet. The full one is"
    " not finished."
)


def write(made: Reproduction, out: Path, mlflow_root: Path | None, quick: bool = False) -> str:
    """Write report.md, results.json and figure.svg into `out`.

    And an MLflow run per arm into the database of `mlflow_root`.

    Returns what a terminal shows: the report, and where it lies.
    """
    results = harness.results(made.study, out)
    if not results:
        return f"{made.study.name}: nothing is finished yet in {out}."
    goals = list(made.goals(results))
    out.mkdir(parents=True, exist_ok=True)
    text = markdown(made, results, goals, quick)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "results.json").write_text(
        json.dumps(as_json(made, results, goals), indent=1) + "\n", encoding="utf-8"
    )
    if made.draw is not None:
        figures.save_figure(partial(made.draw, results), out / "figure.svg", made.study.name)
    said = ""
    if mlflow_root is not None:
        said = _record(made, results, out, mlflow_root, quick)
    return f"{text}\n{out / 'report.md'}{said}\n"


def markdown(made: Reproduction, results: Results, goals: list[Goal], quick: bool = False) -> str:
    """A section: the claim, the published numbers, ours, what was asked, what differs."""
    commands = " and ".join(f"`{command}`" for command in _commands(made, results, quick))
    lines = [f"## {made.title}", "", f"{made.paper}. {made.claim}", "", *made.published, ""]
    lines += [f"Here ({commands}; means over seeds, [95 % t interval]):", ""]
    lines += [*arm_table(results, made.columns), ""]
    if made.notes is not None:
        lines += [*made.notes(results), ""]
    if made.draw is not None:
        lines += [f"![{made.title}](figure.svg)", ""]
    return "\n".join([*lines, *goal_table(goals), "", f"What differs: {made.differs}", ""])


def _commands(made: Reproduction, results: Results, quick: bool) -> list[str]:
    """What makes the table: seeds are named where there are more than the default ones.

    Arms where they differ in that.
    """
    plain = f"ouroloop reproduce {made.study.name}"
    if quick:
        return [f"{plain} --quick"]
    arms_of: dict[str, list[str]] = {}
    for arm, runs in results.items():
        seeds = (
            f" --seeds {' '.join(map(str, sorted(runs)))}" if set(runs) - set(made.seeds) else ""
        )
        arms_of.setdefault(seeds, []).append(arm)
    return [
        plain + (f" --arms {' '.join(arms)}" if len(arms_of) > 1 else "") + seeds
        for seeds, arms in arms_of.items()
    ]


def as_json(made: Reproduction, results: Results, goals: list[Goal]) -> dict[str, Any]:
    """Everything that the report says, as plain values; undefined is null."""
    arms = {
        arm: {
            "seeds": sorted(runs),
            "columns": {
                name: _plain(mean([f(run) for run in runs.values()]))
                for name, (f, _) in made.columns.items()
            },
        }
        for arm, runs in results.items()
    }
    told = [{**asdict(g), "found": _plain(g.found)} for g in goals]
    return {
        "name": made.study.name,
        "paper": made.paper,
        "claim": made.claim,
        "arms": arms,
        "goals": told,
    }


def write_page(folder: Path, page: Path) -> None:
    """The page of every finished reproduction in `folder`, in the registry's order.

    Of the quick run (NAME/quick) where there is no other.
    """
    from ouroloop.loop.reproductions.registry import REPRODUCTIONS

    parts = [
        "# Reproductions\n",
        (
            "Written by `ouroloop reproduce` (`make reproductions`) from the tables in"
            " `docs/reproductions/`; `ouroloop reproduce --list` names all,"
        ),
        (
            "`--quick` shows each effect in minutes. The small world (a Llama of 0.96 M parameters"
            " on worded arithmetic) can show an effect's direction"
        ),
        "and size here, not the published accuracies. What was asked and not met is said so.\n",
    ]
    relative = (
        folder.relative_to(page.resolve().parent)
        if folder.is_relative_to(page.resolve().parent)
        else folder
    )
    for name in REPRODUCTIONS:
        found = next(
            (at for at in (name, f"{name}/quick") if (folder / at / "report.md").exists()), None
        )
        if found is not None:
            text = (
                (folder / found / "report.md")
                .read_text(encoding="utf-8")
                .replace("](figure.svg)", f"]({relative.as_posix()}/{found}/figure.svg)")
            )
            parts.append(text if found == name else text.replace("\n\n", f"\n\n*{QUICK}*\n\n", 1))
    page.write_text("\n".join(parts), encoding="utf-8")


def _record(made: Reproduction, results: Results, out: Path, root: Path, quick: bool) -> str:
    """An MLflow run per arm; what fails is said and hurts nothing."""
    arms = {}
    for arm, runs in results.items():
        found = {
            name: mean([f(run) for run in runs.values()]) for name, (f, _) in made.columns.items()
        }
        metrics = {
            key: value
            for name, e in found.items()
            for key, value in ((name, e.value), (f"{name} low", e.low), (f"{name} high", e.high))
        }
        params = {**made.study.keys(arm, 0, quick), "seeds": sorted(runs)}
        arms[arm] = (
            params,
            {k: v for k, v in metrics.items() if math.isfinite(v)},
            [out / f"{arm}-{seed}.csv" for seed in runs],
        )
    try:
        tracking.record_arms(
            root,
            f"reproduce-{made.study.name}{'-quick' * quick}",
            arms,
            [out / "report.md", out / "results.json"],
        )
    except (
        Exception
    ) as error:  # MLflow may raise anything, and a finished result must not fail for it
        return f"\nMLflow: {error}; the tables are whole."
    return (
        f"\nMLflow: experiment reproduce-{made.study.name}{'-quick' * quick}; `ouroloop ui`"
        " shows it."
    )


def _plain(estimate: Estimate) -> dict[str, float | int | None]:
    return {key: None if value != value else value for key, value in estimate._asdict().items()}
