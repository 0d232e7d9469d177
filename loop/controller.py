"""A round from problems to decision, and rounds until the end.

The story only: each stage lives in `stages/`.

Resume is here too, and costs nothing: a stage whose file exists is read, not run again
(`store.once`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ouroloop.loop.engines import remote
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.objectives import sft
from ouroloop.loop.records import Decision, Example, Problem, Sample
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages import (
    audit as canaries,
)
from ouroloop.loop.stages import (
    dataset,
    decide,
    filters,
    judging,
    naming,
    plan,
    probe,
    refine,
    reserve,
    texts,
)
from ouroloop.loop.stages import (
    preflight as gate,
)
from ouroloop.loop.store import Journal, Store, once_json, read_json, read_rows, write_rows
from ouroloop.loop.views.reader import best_round
from ouroloop.monitors.fence import Unreadable

Progress = Callable[[str, int, int, str], None]


@dataclass
class Campaign:
    """One run: where it is kept, what never changes, who samples.

    And what became of the rounds so far.

    proofs: where canaries of checkpoints that bring none are kept; default: in the run. Many runs
    of one base need but one.
    """

    store: Store
    setting: Setting
    engine: Engine
    progress: Progress
    committed: Callable[[int], None] = lambda number: None
    trainer: Callable[[sft.SftJob, Path, Callable[[int, int], None]], dict[str, Any]] = sft.train
    proofs: Path | None = None
    serving: Path | None = None
    plans: list[plan.Plan] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    async def run(self) -> Decision:
        """Every round of the recipe, or until a monitor halts it. Returns the last decision."""
        once_json(self.store.path / "probe_set.json", self.setting.probe_set.to_json)
        if isinstance(self.setting.strategy, naming.Learned):
            self.setting.strategy.keep_in(self.store.path / "strategies.json")
        for number in range(self.setting.recipe.rounds + 1):
            folder = self.store.round_folder(number)
            if not self.store.is_committed(number):
                self.store.event("round_started", round=number)
            await (self.start(folder) if number == 0 else self.round(number, folder))
            decision = await self.watch(number, folder)
            if not self.store.is_committed(number):
                self.store.commit(number)
                self.store.event("round_committed", round=number, action=decision.action)
                self.committed(number)
            if decision.action == "halt" and self.setting.recipe.monitors.guard:
                break
        return self.decisions[-1]

    async def start(self, folder: Path) -> None:
        """Round 0: the starting model as it is, before any training. It is the frozen reference."""
        once_json(
            folder / "plan.json",
            lambda: {
                "round": 0,
                "start_from": 0,
                "why": ["the starting model, before any training"],
            },
        )
        if self.lacks(
            0,
            "audit.parquet",
            # cheap, and a verifier that fails is known before anything is trained on what it let
            # through
        ):
            await self.serve(self.setting.base)
            await self.try_verifier(
                folder, self.refiner(0, self.setting.recipe.sampling.temperatures)
            )

    async def round(self, number: int, folder: Path) -> None:
        """Plan, sample, judge, assemble, train."""
        best = (
            best_round(
                zip(range(number), self.scores, [d.action for d in self.decisions], strict=True)
            )
            or 0
        )
        back = plan.unharmed(self.decisions, self.scores)
        intent = plan.next_plan(
            self.setting.recipe,
            number,
            self.plans,
            self.decisions,
            number - 1,
            best,
            back,
            self.stock(number - 1),
        )
        self.plans.append(plan.Plan.from_json(once_json(folder / "plan.json", intent.to_json)))
        if not (folder / "examples.parquet").exists():
            await self.learn_from(number, folder, self.plans[-1])
        if not (folder / "train.json").exists():
            await self.train(number, folder, self.plans[-1])

    async def sample(
        self, number: int, folder: Path, intent: plan.Plan
    ) -> tuple[list[Sample], dict[str, Problem]]:
        """Draft, critique, revise: the round's samples, journalled as they come.

        And its problems by id.
        """
        setting = self.setting
        problems = plan.draw(
            setting.problems, intent, np.random.default_rng([setting.recipe.seed, number])
        )
        own = (
            len(intent.teachers) + 1
            # problems are dealt out between the student and earlier rounds; a recipe's teachers draft
            # for all
        )
        student = self.checkpoint(intent.sample_from)
        sources: list[tuple[str, Path | str, list[Problem]]] = []
        if setting.recipe.sampling.student:
            sources = [("student", student, problems[::own])]
            sources += [
                (f"round{n}", self.checkpoint(n), problems[i::own])
                for i, n in enumerate(intent.teachers, 1)
            ]
        sources += [
            (f"teacher{i}", teacher, problems) for i, teacher in enumerate(setting.teachers)
        ]
        journal = Journal(folder / "samples.jsonl")
        samples = []
        for source, model, theirs in sources:
            async with self.asking(model, student) as engine:
                refiner = replace(self.refiner(number, intent.temperatures, source), engine=engine)
                samples += await refine.collect(refiner, theirs, journal, self.tell)
            if source == "student" and self.lacks(number, "audit.parquet"):
                await self.try_verifier(folder, refiner)
        journal.close()
        return samples, {p.id: p for p in problems}

    @asynccontextmanager
    async def asking(self, model: Path | str, student: Path) -> AsyncIterator[Engine]:
        """The engine on a checkpoint.

        Or a server, whose answers the engine tokenises as the student's.
        """
        if isinstance(model, Path):
            await self.serve(model)
            yield self.engine
            return
        await self.serve(student)
        server = remote.RemoteEngine(model, self.engine, self.setting.recipe.engine.concurrency)
        try:
            yield server
        finally:
            await server.close()

    async def learn_from(self, number: int, folder: Path, intent: plan.Plan) -> None:
        """Sample, filter, pass the gate; and a training set."""
        setting, recipe = self.setting, self.setting.recipe
        samples, by_id = await self.sample(number, folder, intent)
        verdicts = filters.judge(
            samples, by_id, setting.task, plan.gates(recipe.filters, intent), setting.strategy
        )
        intent = self.before_training(folder, filters.to_rows(samples, verdicts, by_id), intent)
        if intent != self.plans[-1]:  # mended by the gate
            verdicts = filters.judge(
                samples, by_id, setting.task, plan.gates(recipe.filters, intent), setting.strategy
            )
        write_rows(
            folder / "verdicts.parquet", filters.to_rows(samples, verdicts, by_id), filters.SCHEMA
        )
        self.count_unreadable(number, "samples", [v.unreadable for v in verdicts])
        if self.serving is None:  # nobody drafted: the round learns from gold traces alone
            await self.serve(self.checkpoint(intent.start_from))
        earlier = {
            n: read_rows(self.store.round_folder(n) / "examples.parquet") for n in range(1, number)
        }
        lineage = plan.lineage(self.plans, intent.start_from)
        kept, questions = (
            dataset.kept_examples(samples, verdicts, number),
            dataset.question_of([*setting.problems, *setting.demonstrations]),
        )
        if recipe.dataset.erase_systems:
            kept = await dataset.without_systems(kept, questions, self.engine, setting.prompts)
        examples = await dataset.assemble(
            kept,
            list(by_id.values()),
            [earlier[n] for n in lineage],
            reserve.Reserve.gather(setting.demonstrations, list(earlier.values())),
            intent,
            recipe.dataset,
            self.engine,
            setting.prompts,
            questions,
            setting.probe_set.heldout,
            self.strategy_shares(),
            seed=refine.derive_seed(recipe.seed, number, "", "dataset", 0),
        )
        if recipe.dataset.target == "answer":
            examples = await dataset.answers_only(
                examples, self.final_answer, self.engine, setting.prompts
            )
        write_rows(folder / "examples.parquet", [asdict(e) for e in examples], dataset.SCHEMA)
        self.store.event(
            "filtered",
            round=number,
            samples=len(samples),
            kept=sum(v.kept for v in verdicts),
            examples=len(examples),
        )

    @cached_property
    def items(self) -> Mapping[str, Problem]:
        """Everything that can become an example, by id."""
        return {p.id: p for p in (*self.setting.demonstrations, *self.setting.problems)}

    def final_answer(self, example: Example) -> str | None:
        """The answer that an example's trace ends with."""
        grade = judging.graded(self.items[example.problem_id], example.text, self.setting.task)
        return None if isinstance(grade, Unreadable) else grade.answer

    def before_training(
        self, folder: Path, rows: Sequence[Mapping[str, Any]], intent: plan.Plan
    ) -> plan.Plan:
        """The gate's word on the samples that the filter would keep (preflight.json).

        And the plan as it mends it.
        """
        path = folder / "audit.parquet"
        seen = probe.view(intent.round, [], [], rows, (), read_rows(path) if path.exists() else ())
        top_answer = self.stock(0).top_answer
        said = once_json(
            folder / "preflight.json",
            lambda: gate.judge(
                seen.pool, seen.audit, intent, self.setting.recipe, top_answer
            ).to_json(),
        )
        self.store.event("gate", round=intent.round, action=said["action"], reasons=said["reasons"])
        return gate.carried_out(intent, said, self.setting.recipe.monitors.guard)

    async def try_verifier(self, folder: Path, refiner: refine.Refiner) -> None:
        """Planted items of known truth before the judge of this round's samples.

        Under the model that samples.
        """
        rows = await canaries.judge(
            refiner, self.setting.held_out.audit_items, self.setting.task, self.tell
        )
        write_rows(folder / "audit.parquet", rows, canaries.SCHEMA)
        self.count_unreadable(refiner.round, "planted items", [row["unreadable"] for row in rows])

    def count_unreadable(self, number: int, what: str, labels_N: Sequence[Sequence[str]]) -> None:
        """An event with how many samples a grader, step checker.

        Strategy reader or corrupter failed on, if any.
        """
        failed, why = judging.count(labels_N)
        if failed:
            self.store.event(
                "unreadable", round=number, what=what, unreadable=failed, of=len(labels_N), why=why
            )

    async def train(self, number: int, folder: Path, intent: plan.Plan) -> None:
        """SFT in a child process; too few samples kept means no training.

        And the round keeps the checkpoint it started from.
        """
        recipe, start = self.setting.recipe, self.checkpoint(intent.start_from)
        own = sum(
            row["origin"] in ("kept", "earlier", "gold")
            for row in read_rows(folder / "examples.parquet")
        )
        said = read_json(folder / "preflight.json")
        blocked = said["action"] == "block" and recipe.monitors.guard
        if blocked or own < recipe.dataset.min_examples:
            why = (
                said["reasons"][0]
                if blocked
                else (
                    f"{own} examples of its own; dataset.min_examples asks for"
                    f" {recipe.dataset.min_examples}"
                )
            )
            once_json(
                folder / "train.json",
                lambda: {
                    "status": "skipped",
                    "reason": why,
                    "checkpoint": str(start),
                    "num_examples": own,
                },
            )
            self.store.event("training_skipped", round=number, reason=why)
            return
        if recipe.engine.swap == "respawn":  # the engine's memory is the trainer's now
            await self.engine.close()
            self.serving = None
        seed = refine.derive_seed(recipe.seed, number, "", "sft", 0)
        job = sft.SftJob.from_recipe(
            recipe, start, folder, seed, intent.blend, self.setting.base if intent.blend else None
        )
        facts = self.trainer(job, folder, lambda done, total: self.tell("training", done, total))
        self.store.event(
            "trained", round=number, seconds=facts["seconds"], examples=facts["num_examples"]
        )

    async def watch(self, number: int, folder: Path) -> Decision:
        """Probe the round's model, let every monitor read it, and decide."""
        setting, recipe = self.setting, self.setting.recipe
        if self.lacks(number, "texts.parquet"):
            await self.serve(self.checkpoint(number))
            scored = await texts.measure(
                self.engine, setting.prompts, setting.held_out.texts, self.tell
            )
            write_rows(folder / "texts.parquet", scored, texts.SCHEMA)
        if self.lacks(number, "critics.parquet"):
            await self.serve(self.checkpoint(number))
            refiner = self.refiner(number, (recipe.probe.temperature,))
            rows, critics = await probe.measure(
                refiner, setting.probe_set, setting.task, recipe.probe, setting.strategy, self.tell
            )
            write_rows(folder / "probe.parquet", rows, probe.PROBE_SCHEMA)
            self.count_unreadable(number, "probe samples", [row["unreadable"] for row in rows])
            write_rows(folder / "critics.parquet", critics, probe.CRITICS_SCHEMA)
        anchors = [
            self.view(a) for a in plan.anchors(self.plans, number, recipe.monitors.baselines)
        ]
        view, main = self.view(number), setting.probe_set.main
        readings = decide.measure(view, anchors, folder, main, recipe)
        self.scores.append(decide.main_score(readings, main))
        panel = decide.panel(recipe, main)
        raw = once_json(
            folder / "decision.json",
            lambda: decide.decide(panel, view, anchors, readings, self.decisions, recipe),
        )
        self.decisions.append(decide.from_json(raw))
        return self.decisions[-1]

    def view(self, number: int) -> Any:
        """What the monitors see of a round, from its tables."""
        folder = self.store.round_folder(number)
        verdicts = read_rows(folder / "verdicts.parquet") if number else []
        later = [
            folder / "texts.parquet",
            folder / "audit.parquet",
        ]  # runs of earlier versions have none
        optional = [read_rows(path) if path.exists() else [] for path in later]
        return probe.view(
            number,
            read_rows(folder / "probe.parquet"),
            read_rows(folder / "critics.parquet"),
            verdicts,
            *optional,
        )

    def strategy_shares(self) -> dict[str, float]:
        """Each strategy's share of round 0's right answers in the main family."""
        rows = read_rows(self.store.round_folder(0) / "probe.parquet")
        return plan.strategy_shares(r for r in rows if r["family"] == self.setting.probe_set.main)

    def stock(self, number: int) -> plan.Stock:
        """What a remedy after round `number` has to work with."""
        return decide.stock(
            self.view(number), self.view(0), self.strategy_shares(), self.setting.probe_set.main
        )

    def refiner(
        self, number: int, temperatures: tuple[float, ...], source: str = "student"
    ) -> refine.Refiner:
        """How a problem becomes samples in a round."""
        return refine.Refiner(
            self.engine,
            self.setting.recipe,
            self.setting.prompts,
            number,
            temperatures,
            self.setting.principles,
            source,
        )

    def lacks(self, number: int, name: str) -> bool:
        """Whether a file of a round is still to be made.

        Nothing is added to a round that is committed.
        """
        return (
            not self.store.is_committed(number)
            and not (self.store.round_folder(number) / name).exists()
        )

    def checkpoint(self, number: int) -> Path:
        """The checkpoint of a round; 0 is the base model."""
        if number == 0:
            return self.setting.base
        return self.store.path / str(
            read_json(self.store.round_folder(number) / "train.json")["checkpoint"]
        )

    async def serve(self, checkpoint: Path) -> None:
        """Hot-swap the engine's weights, unless they are these; the engine's canary proves it."""
        if checkpoint != self.serving:
            self.tell("loading", 0, 1)
            engine = self.setting.recipe.engine
            await self.engine.load(
                checkpoint,
                (
                    sft.canary_of(checkpoint, self.proofs or self.store.path, engine.dtype)
                    if engine.weight_sync_check
                    else None
                ),
            )
            self.serving = checkpoint
            self.tell("loading", 1, 1)

    def tell(self, stage: str, done: int, total: int) -> None:
        """Progress of a stage of the round at work."""
        self.progress(stage, done, total, f"round {len(self.decisions)}")
