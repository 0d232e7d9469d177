"""REPRODUCTIONS.md: one line per experiment, written from the results files.

How many goals are met, which are not; README.md repeats the count between two markers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ouroloop.loop.experiments import loading, report, results
from ouroloop.loop.experiments.experiment import Experiment
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.tables import cell

PAGE = Path("REPRODUCTIONS.md")
README = Path("README.md")

# Where the count stands in README.md.
MARKED = re.compile(r"(<!-- goals -->\n).*?(\n<!-- /goals -->)", re.DOTALL)


@dataclass(frozen=True)
class Line:
    """One experiment: where it is, what it is, what was asked of it."""

    folder: Path
    made: Experiment
    goals: Sequence[Goal]

    def count(self, met: bool | None) -> int:
        """How many goals are met (True), not met (False), not known yet (None)."""
        return Counter(goal.met for goal in self.goals)[met]


def lines(home: Path) -> list[Line]:
    """Every experiment of a folder that has results, by name."""
    out = []
    for folder in loading.available(home):
        if (folder / results.NAME).exists():
            made = loading.load(folder)
            found = results.read(made.study, folder / results.NAME)
            out.append(Line(folder, made, made.goals(found)))
    return out


def page(found: Sequence[Line], root: Path) -> str:
    """The index as Markdown, links relative to `root`."""
    out = [
        "# Experiments and reproductions",
        "",
        "Written by `ouroloop study` from the results file of each experiment; nothing here is",
        "typed by hand. `ouroloop study FOLDER` runs what such a file lacks, `make reproductions`",
        "what all lack: nothing that is committed is run again. `ouroloop study FOLDER --out",
        "OTHER` makes the whole of a result again, in another folder; `--quick` shows its effect",
        "in minutes.",
        "",
        "The small world (a Llama of 0.96 M parameters on worded arithmetic) can show an effect's",
        "direction and size, not the published accuracies. Intervals over seeds are Student's: of",
        "3 to 10 seeds with skewed (lognormal) outcomes they hold the mean in 82 to 84 % of",
        "cases, not in 95.",
        "",
        f"**{count(found)}**",
        "",
        "| experiment | paper | claim under test | met | not met | not known |",
        "|---|---|---|---|---|---|",
    ]
    for line in found:
        name = line.folder.name
        where = (line.folder / report.PAGE).relative_to(root).as_posix()
        counts = " | ".join(str(line.count(met)) for met in (True, False, None))
        paper = line.made.paper or "our own"
        out.append(f"| [{name}]({where}) | {paper} | {line.made.claim} | {counts} |")
    # What did not come out stands here by name, so that nobody has to look for it.
    for met, title in ((False, "Not met"), (None, "Not known yet")):
        goals = [(line, goal) for line in found for goal in line.goals if goal.met is met]
        if goals:
            out += ["", f"{title}:", ""]
            out += [
                f"- {line.folder.name}: {goal.asks}: {cell(goal.found, goal.unit)}"
                for line, goal in goals
            ]
    return "\n".join(out) + "\n"


def count(found: Sequence[Line]) -> str:
    """One sentence with the totals."""
    total = sum(len(line.goals) for line in found)
    met, missed, unknown = (sum(line.count(m) for line in found) for m in (True, False, None))
    return (
        f"{len(found)} experiments, {total} goals: {met} met, {missed} not met,"
        f" {unknown} not known yet."
    )


def write(home: Path, root: Path) -> None:
    """Write REPRODUCTIONS.md into `root` and the count into its README.md.

    Nothing is written where there is no such index: experiments may lie in any project.
    """
    readme = root / README
    if not ((root / PAGE).exists() and readme.exists()):
        return
    found = lines(home)
    (root / PAGE).write_text(page(found, root), encoding="utf-8")
    text = readme.read_text(encoding="utf-8")
    readme.write_text(counted(text, found), encoding="utf-8")


def counted(readme: str, found: Sequence[Line]) -> str:
    """README's text with the count of today."""
    return MARKED.sub(lambda match: f"{match[1]}{count(found)}{match[2]}", readme)
