"""The page of an experiment, written from its results file: README.md and figure.svg.

On request an MLflow run per arm as well.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop.experiments import results
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.goals import goal_table
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import arm_table
from ouroloop.loop.trackers import mlflow_arms as tracking
from ouroloop.loop.views import svg
from ouroloop.monitors.estimators.stats import mean

PAGE, FIGURE = "README.md", "figure.svg"

# Words about the results, written by hand; they stand under the title of the page.
FINDINGS = "findings.md"
QUICK = (
    "The quick run: smaller, and one seed, so that nothing over seeds is known yet. The full one is"
    " not finished."
)


def write(made: Experiment, shown: str, out: Path, words: str = "", quick: bool = False) -> str:
    """Write README.md and figure.svg beside the results file in `out`.

    Args:
        made: the experiment.
        shown: the study's folder or file as the command line names it.
        out: the folder with the results file.
        words: Markdown that was written by hand.
        quick: whether the results are those of the quick run.

    Returns what a terminal shows: the page, and where it lies.
    """
    found = results.read(made.study, out / results.NAME)
    if not found:
        return f"{made.study.name}: nothing is finished yet in {out}."
    text = page(made, found, shown, words, quick)
    (out / PAGE).write_text(text, encoding="utf-8")
    if made.draw is not None:
        svg.save_figure(partial(made.draw, found), out / FIGURE, made.study.name)
    return f"{text}\n{out / PAGE}\n"


def page(made: Experiment, found: Results, shown: str, words: str = "", quick: bool = False) -> str:
    """The claim, the published numbers, ours, what was asked, what differs, as Markdown."""
    title = made.title or made.study.name
    # What it is about, and what was published.
    paper = f"{made.paper}." if made.paper else ""
    blocks = [f"# {title}"]
    if quick:
        blocks.append(f"*{QUICK}*")
    # What came of it is said by the goals; the claim itself is nobody's finding.
    claim = f"**Claim under test.** {made.claim}" if made.claim else ""
    blocks += [f"{paper} {claim}".strip(), "\n".join(made.published), words.strip()]
    # What was found: the table of arms, further tables, the figure.
    commands = " and ".join(f"`{command}`" for command in _commands(made, found, shown, quick))
    blocks.append(f"Here ({commands}; means over seeds, [95 % t interval]):")
    blocks.append("\n".join(arm_table(found, made.columns)))
    if made.notes is not None:
        blocks.append("\n".join(made.notes(found)))
    if made.draw is not None:
        blocks.append(f"![{title}]({FIGURE})")
    # What was asked. A quick run has few arms; goals about the others are left out there.
    goals = [goal for goal in made.goals(found) if goal.has_result or not quick]
    if goals:
        blocks.append("\n".join(goal_table(goals)))
    if made.differs:
        blocks.append(f"What differs: {made.differs}")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _commands(made: Experiment, found: Results, shown: str, quick: bool) -> list[str]:
    """What makes the table.

    Seeds are named where there are more than the default ones, arms where they differ in that.
    """
    plain = f"ouroloop study {shown}"
    if quick:
        return [f"{plain} --quick"]
    arms_of: dict[str, list[str]] = {}
    for arm, runs in found.items():
        more = set(runs) - set(made.seeds)
        seeds = f" --seeds {' '.join(map(str, sorted(runs)))}" if more else ""
        arms_of.setdefault(seeds, []).append(arm)
    return [
        plain + (f" --arms {' '.join(arms)}" if len(arms_of) > 1 else "") + seeds
        for seeds, arms in arms_of.items()
    ]


def record(made: Experiment, out: Path, root: Path, quick: bool = False) -> str:
    """An MLflow run per arm in the database of `root`; returns a line that says what happened.

    A failure of MLflow is reported in that line and hurts nothing.
    """
    found = results.read(made.study, out / results.NAME)
    name = f"study-{made.study.name}{'-quick' * quick}"
    arms = {arm: _arm(made, arm, found, quick) for arm in found}
    files = [out / results.NAME, out / PAGE]
    try:
        tracking.record_arms(root, name, arms, files)
    except Exception as error:  # MLflow may raise anything; a finished result must not fail for it
        return f"MLflow: {error}; the results file is whole."
    return f"MLflow: experiment {name}; `ouroloop ui` shows it."


def _arm(
    made: Experiment, arm: str, found: Results, quick: bool
) -> tuple[dict[str, Any], dict[str, float], list[Path]]:
    """Parameters, metrics and files of an arm's MLflow run."""
    metrics: dict[str, float] = {}
    for name, (column, _) in made.columns.items():
        estimate = mean([column(run) for run in found[arm].values()])
        metrics |= {
            name: estimate.value,
            f"{name} low": estimate.low,
            f"{name} high": estimate.high,
        }
    params = {**made.study.keys(arm, 0, quick), "seeds": sorted(found[arm])}
    return params, {key: value for key, value in metrics.items() if math.isfinite(value)}, []
