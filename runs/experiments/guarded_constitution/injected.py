"""A collapse injected into real samples: how soon is it called, and how often is nothing called?

The texts are those of a run's round 0, sampled from the assistant before any training, with the
frozen judge's verdicts. A simulated run draws every round's probe from them; from its onset on,
each sample is replaced by one canned text with probability `SHARE`: a text of round 0 itself,
another one in every run (`own`), or a refusal as nobody wrote one before, as long and as likely as
the answer that it replaces (`new`). Nothing is trained, and no decision is carried out. The
samples are those of any run of the study or the recipe; more of them (`--set
probe.baseline_samples=64`) are a richer model to draw from. What is in the file is not simulated
again. From the top of the repository:

    ouroloop run runs/recipes/constitutional.yaml --set rounds=1
    python -m runs.experiments.guarded_constitution.injected runs/constitutional injected.csv
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.recipes.recipe_file import load_recipe
from ouroloop.loop.round import Round
from ouroloop.loop.round_view import samples_of
from ouroloop.loop.rows import JudgementRow, ProbeRow
from ouroloop.loop.stages.decide import decision_rule
from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.names import Tier
from ouroloop.monitors.strategies.responses import ResponseClusters

from .measure import HELPFUL, RED_TEAM

RECIPE = Path(__file__).parents[2] / "recipes" / "constitutional.yaml"
SHARE = 0.10
"""Of the mass, that moves to the canned text."""
ROUNDS = 20
ONSETS = (4, 5, 6)
"""First rounds of a collapse: none before the recipe's baseline of wording, round 3."""
NULL = "null"
REFUSAL = "no one is here to answer"
KINDS = ("own", "new", NULL)
# What the goals are about comes first.
NUM_RUNS = {"own": 200, NULL: 100, "new": 100}
WITHIN = 2
"""Rounds from the onset on in which a collapse is to be called."""
RUNS_PER_BASELINE = 10
"""Runs that share a baseline round, whose clusters are slow to fit."""


@dataclass(frozen=True)
class Row:
    """One simulated run. onset: 0 where nothing was injected; watch, halt: 0 for never."""

    kind: str
    seed: int
    onset: int
    watch: int = 0
    halt: int = 0
    driver: str = ""
    mode: str = ""


@dataclass(frozen=True)
class Answer:
    """A sample of round 0, and what the judge said of it, by criterion; empty if not asked."""

    row: ProbeRow
    verdicts: tuple[JudgementRow, ...]


class World:
    """Round 0's samples, and how a probe is drawn from them."""

    def __init__(self, run: Path) -> None:
        """Read the run's round 0."""
        round, self.recipe = Round.of(run, 0), load_recipe(RECIPE)
        verdicts: dict[tuple[str, int], list[JudgementRow]] = defaultdict(list)
        for verdict in round.judgements:
            if verdict.truth is None:
                verdicts[verdict.problem, verdict.index].append(verdict)
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        for row in round.probe:
            if row.kind == "sample":
                own = self.answers[row.problem]
                # Nobody scored these: the guard of this recipe sees no gold answer.
                own.append(Answer(replace(row, correct=None, valid=None), ()))
                own[-1] = replace(own[-1], verdicts=tuple(verdicts[row.problem, len(own) - 1]))
        task = ArithmeticTask(train_families=(RED_TEAM, *HELPFUL))
        self.problems = {p.id: p for p in task.problems("heldout")}

    def canned(self, rng: np.random.Generator, kind: str) -> ProbeRow:
        """The canned text of a run."""
        problem = rng.choice(sorted(self.answers))
        own = self.answers[problem]
        row = own[int(rng.integers(len(own)))].row
        return row if kind == "own" else replace(row, text=REFUSAL)

    def draw(
        self, rng: np.random.Generator, num: int, canned: ProbeRow | None
    ) -> tuple[list[ProbeRow], list[JudgementRow]]:
        """A round's probe of `num` samples a problem, and the verdicts on its first ones."""
        rows: list[ProbeRow] = []
        verdicts: list[JudgementRow] = []
        judge = self.recipe.judge
        assert judge is not None
        num_judged = judge.samples * num // self.recipe.probe.samples
        for own in self.answers.values():
            judged = [answer for answer in own if answer.verdicts]
            for index in range(num):
                # What is judged is drawn from what was judged: both are draws of one model.
                pool = judged if index < num_judged and judged else own
                answer = pool[int(rng.integers(len(pool)))]
                if canned is not None and rng.random() < SHARE:
                    answer = self._as_answer_to(canned, answer)
                rows.append(answer.row)
                if index < num_judged:
                    verdicts += [replace(each, index=index) for each in answer.verdicts]
        return rows, verdicts

    def _as_answer_to(self, canned: ProbeRow, replaced: Answer) -> Answer:
        """The canned text in the place of an answer, with the programs' verdicts on it."""
        row = replace(replaced.row, text=canned.text)
        if canned.text != REFUSAL:
            row = replace(
                row,
                strategy=canned.strategy,
                answer=canned.answer,
                nll=canned.nll,
                num_tokens=canned.num_tokens,
                truncated=canned.truncated,
            )
        problem = self.problems[row.problem]
        return Answer(row, tuple(_judged(problem, row.text, each) for each in replaced.verdicts))


@dataclass(frozen=True)
class Labels:
    """Response clusters fitted on a baseline round; a text is labelled once for each problem."""

    clusters: ResponseClusters
    known: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def of(self, rows: Sequence[ProbeRow]) -> list[ProbeRow]:
        """The rows with their response clusters."""
        unknown = sorted({(row.problem, row.text) for row in rows} - self.known.keys())
        names = self.clusters.labels([text for _, text in unknown], [p for p, _ in unknown])
        self.known.update(zip(unknown, names, strict=True))
        return [replace(row, cluster=self.known[row.problem, row.text]) for row in rows]


def _judged(problem: Problem, text: str, asked: JudgementRow) -> JudgementRow:
    """A judge that never errs: the real one agreed with the programs on every planted item."""
    assert asked.principle is not None  # the recipe's judge is a model
    broken = principles.violations(problem, text)[asked.principle]
    return replace(asked, approved=float(not broken), text="")


def _view(number: int, rows: Sequence[ProbeRow], verdicts: Sequence[JudgementRow]) -> RoundView:
    return RoundView(number, samples_of(rows, verdicts))


def runs(world: World, num_runs: int, kind: str, start: int) -> Iterator[Row]:
    """Simulated runs with seeds from `start` on; those of one baseline share its clusters."""
    recipe, fitted = world.recipe, -1
    for seed in range(start, start + num_runs):
        number = seed // RUNS_PER_BASELINE
        if number != fitted:
            fitted = number
            rng = np.random.default_rng([number, KINDS.index(kind)])
            drawn, verdicts = world.draw(rng, recipe.probe.baseline_samples or 1, None)
            clusters = ResponseClusters().fit(
                [row.text for row in drawn], [row.problem for row in drawn]
            )
            labels = Labels(clusters)
            baseline = _view(0, labels.of(drawn), verdicts)
        rng = np.random.default_rng([seed, 7, KINDS.index(kind)])
        onset = int(rng.choice(ONSETS)) if kind != NULL else 0
        yield one_run(world, labels, baseline, rng, Row(kind, seed, onset))


def one_run(
    world: World,
    labels: Labels,
    baseline: RoundView,
    rng: np.random.Generator,
    row: Row,
) -> Row:
    """One run until HALT, or until nothing of interest can come any more."""
    recipe, onset = world.recipe, row.onset
    rule: DecisionRule = decision_rule(recipe.model_copy(update={"rounds": ROUNDS}), RED_TEAM)
    text = world.canned(rng, row.kind) if onset else None
    views, history = [baseline], [rule.decide(baseline, [])]
    last = onset + WITHIN - 1 if onset else ROUNDS
    for number in range(1, last + 1):
        is_baseline = number in recipe.monitors.baselines
        num = recipe.probe.samples
        if is_baseline:
            num = recipe.probe.baseline_samples or num
        drawn, verdicts = world.draw(rng, num, text if onset and number >= onset else None)
        view = _view(number, labels.of(drawn), verdicts)
        compared = [past for past in views if past.round in recipe.monitors.baselines]
        decision = replace(rule.decide(view, compared, (), history), carried_out=False)
        history.append(decision)
        if is_baseline:
            views.append(view)
        row = _noted(row, decision)
        if row.halt:
            break
    return row


def _noted(row: Row, decision: Decision) -> Row:
    """The first round of each tier, and what drove the first."""
    reached = {tier: tier in decision.evidence and decision.evidence[tier].reached for tier in Tier}
    if (reached[Tier.WATCH] or reached[Tier.HALT]) and not row.watch:
        mode = decision.mode.value if decision.mode else ""
        found = decision.evidence[Tier.WATCH].driver
        row = replace(row, watch=decision.round, driver=str(found), mode=mode)
    if reached[Tier.HALT] and not row.halt:
        row = replace(row, halt=decision.round)
    return row


def main() -> None:
    """Simulate, and write one line for each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    for kind, num in NUM_RUNS.items():
        parser.add_argument(f"--{kind}", type=int, default=num)
    asked = parser.parse_args()
    world = World(asked.run)
    known = [row["kind"] for row in read(asked.out)]
    with asked.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(Row.__dataclass_fields__))
        if not known:
            writer.writeheader()
        for kind in NUM_RUNS:
            done = known.count(kind)
            for row in runs(world, getattr(asked, kind) - done, kind, done):
                writer.writerow(asdict(row))
                file.flush()


def read(path: Path) -> list[dict[str, str]]:
    """The simulated runs; none before they were made."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
