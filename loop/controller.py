"""A round from problems to decision, and rounds until the end. The story only.

plan -> sample -> judge -> assemble (or pair) -> train -> measure -> decide -> commit

Each step is in `stages/`. To resume: what a round (`round.py`) has is read, what it lacks is made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ouroloop.loop import measuring
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.folder import retention
from ouroloop.loop.folder.journal import Journal, journalled
from ouroloop.loop.folder.ledger import JOURNAL
from ouroloop.loop.folder.store import CLUSTERS, PROBE_SET, STRATEGIES, WARM_START, Store
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.job import Trainer
from ouroloop.loop.records import Sample
from ouroloop.loop.round import Round
from ouroloop.loop.rows import StartPlan
from ouroloop.loop.serving import Serving
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages import (
    audit,
    dataset,
    decide,
    dropped,
    filters,
    judging,
    naming,
    pairs,
    plan,
    preflight,
    refine,
    remedy,
    train,
    warm_start,
)
from ouroloop.loop.stages.case import examine
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.sources import sources_of
from ouroloop.monitors.decision.rule import Decision, DecisionRule
from ouroloop.monitors.names import Action

Progress = Callable[[str, int, int, str], None]


@dataclass
class Campaign:
    """One run: where it is kept, what never changes, who samples, and its rounds so far.

    trainer: default: a child process that imports its libraries while the engine samples.
    proofs: where the weight-sync prompts of checkpoints that bring none are kept; default: in the
    run. Many runs of one base need but one.
    """

    store: Store
    setting: Setting
    engine: Engine
    progress: Progress
    committed: Callable[[int], None] = lambda number: None
    trainer: Trainer | None = None
    proofs: Path | None = None
    rounds: list[Round] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Nothing is served yet."""
        self.recipe, self.main = self.setting.recipe, self.setting.probe_set.main
        self.journal, proofs = Journal(), self.proofs or self.store.path
        # Every stage asks through the journal, and knows nothing of it.
        self.engine = engine = journalled(self.engine, self.journal, self.store, self.setting)
        self.serving = Serving.of(engine, self.recipe, proofs, self.report, self.proven)
        self.warm = training.warm_trainer(self.recipe, wanted=self.trainer is None)
        self.carry_out = self.trainer or partial(training.train, warm=self.warm)

    async def run(self) -> Decision:
        """Every round of the recipe, or until one is decided to be the last."""
        self.begin()
        if self.recipe.warm_start is not None:
            await self.warm_start()
        for number in range(self.recipe.rounds + 1):
            round = self.open(number)
            if not round.is_committed:
                await self.work(round)
            # An unguarded arm writes decisions down and goes on: that is what it is for.
            if round.decision.action == Action.HALT and self.recipe.monitors.guard:
                break
        retention.prune(self.store, self.rounds, self.recipe)
        return self.rounds[-1].decision

    async def work(self, round: Round) -> None:
        """One round, from its plan to its manifest."""
        self.plan(round)
        if round.number == 0:
            await self.audit(round, self.setting.base)
        elif round.lacks(Round.training):
            await self.learn(round)
        await self.measure(round)
        self.decide(round)
        self.commit(round)

    async def learn(self, round: Round) -> None:
        """From problems to the round's checkpoint."""
        self.warm.start()
        table = train.table_of(self.recipe, round.number)
        if round.lacks(table):
            samples = await self.sample(round)
            self.judge(round, samples)
            make = self.pair if table is Round.pairs else self.assemble
            await make(round, samples)
        await self.train(round)

    async def warm_start(self) -> None:
        """From the recipe's model to the one that the run starts from: round 0's."""
        folder = self.store.path / WARM_START
        job = warm_start.job_of(self.recipe, self.setting.base, folder)
        if not job.examples.exists():
            # Token ids are the engine's to say.
            await self.serving.serve(self.setting.base)
            await warm_start.write_examples(self.setting.warm_start, self.encoder(), folder)
        if not warm_start.is_trained(folder):
            await self.serving.free_memory()
            progress = partial(self.report, "training")
            facts = warm_start.learn(job, self.store.path, self.carry_out, progress)
            self.store.event("warm_started", **facts)
        self.setting = replace(self.setting, base=job.output)

    # -- the steps, in order ------------------------------------------------------

    def plan(self, round: Round) -> None:
        """What the round sets out to do."""
        if not round.lacks(Round.plan):
            return
        if round.number == 0:
            round.start = StartPlan()
        else:
            stock = remedy.stock_of(self.history, self.main, self.recipe.monitors.gold)
            round.plan = plan.next_plan(self.recipe, self.history, stock)

    async def sample(self, round: Round) -> list[Sample]:
        """Draft, critique, revise."""
        student = self.checkpoint(round.plan.sample_from)
        samples: list[Sample] = []
        sources = sources_of(round.plan, self.setting, self.checkpoint)
        lacks_samples = round.lacks(Round.samples)
        for source in sources:
            if lacks_samples:
                async with self.serving.asking(source.model, student) as engine:
                    refiner = self.refiner(round, round.plan.temperatures, source.name, engine)
                    samples += await refine.collect(refiner, source.problems, self.report)
            # While the student is still served: loading a checkpoint is slow.
            if source.name == refine.STUDENT:
                await self.audit(round, student)
        if lacks_samples:
            round.samples = samples
            for counts in self.setting.shots.counted():
                self.event("shots_cut", round, **counts)
        return dropped.set_apart(round, round.samples)

    async def audit(self, round: Round, student: Path) -> None:
        """Planted items before the verifier, under the model that samples."""
        if round.lacks(Round.audit):
            await self.serving.serve(student)
            items = self.setting.held_out.audit_items
            refiner = self.refiner(round, self.recipe.sampling.temperatures)
            round.audit = await audit.judge(refiner, items, self.setting.task, self.report)

    def judge(self, round: Round, samples: list[Sample]) -> None:
        """The filters' verdicts, under the plan as the preflight check adjusts it."""
        problems = {p.id: p for p in plan.draw(self.setting.problems, round.plan, self.recipe.seed)}
        setting = self.setting
        cases = examine(samples, problems, setting.task, setting.strategy, setting.responses)
        verdicts = filters.judge(cases, plan.filters_of(self.recipe.filters, round.plan))
        if round.lacks(Round.preflight):
            first, gold = self.rounds[0], self.recipe.monitors.gold
            # Round 1's own samples are what round 0's model drafted.
            drafted = remedy.first_drafts(self.history) or verdicts
            round.preflight = preflight.check_round(
                round,
                verdicts,
                self.recipe,
                top_answer=remedy.top_answer(first.view, self.main),
                top_cluster=remedy.top_cluster(drafted),
                by_cluster=remedy.goes_by_cluster(first, drafted, self.main, gold),
            )
        found = round.preflight
        self.event("preflight", round, action=found.action, reasons=found.reasons)
        # The filters are asked again only where their caps changed.
        adjusted = preflight.adjusted(round.plan, found, self.recipe.monitors.guard)
        if adjusted != round.plan:
            verdicts = filters.judge(cases, plan.filters_of(self.recipe.filters, adjusted))
        round.verdicts = verdicts

    async def assemble(self, round: Round, samples: list[Sample]) -> None:
        """The training set: kept samples, what the policy adds, replay; no held-out question."""
        # Where nobody drafted, nothing is served yet, and token ids are the engine's to say.
        await self.serving.serve_any(self.checkpoint(round.plan.start_from))
        round.examples = await dataset.training_set(
            round, self.history, samples, self.setting, self.encoder()
        )
        self.event("filtered", round, examples=len(round.examples), **dropped.counts_of(round))

    async def pair(self, round: Round, samples: list[Sample]) -> None:
        """The training set of a preference round: of two texts on a prompt the better one."""
        by_baseline = self.recipe.pairs.judge == "baseline"
        await self.serving.serve(self.checkpoint(0 if by_baseline else round.plan.sample_from))
        encoder = Encoder(self.engine, self.setting.prompts)
        round.pairs = await pairs.training_pairs(round, samples, self.setting, encoder, self.report)
        self.event("paired", round, pairs=len(round.pairs), **dropped.counts_of(round))

    async def train(self, round: Round) -> None:
        """Training in a child process, unless there is a reason not to."""
        start = self.checkpoint(round.plan.start_from)
        skipped = train.skipped(round, start, self.recipe)
        if skipped is not None:
            round.training = skipped
            self.event("training_skipped", round, reason=skipped.reason)
            return
        # The plan as it was: the preflight check adjusts what is trained on, not from where.
        await self.serving.free_memory()
        job = train.job_of(self.recipe, round.plan, round.folder, self.checkpoint)
        self.carry_out(job, round.folder, partial(self.report, "training"))
        round.ledger.add_new()
        event, facts = train.outcome(round)
        self.event(event, round, **facts)

    async def measure(self, round: Round) -> None:
        """The round's model on what no training ever sees."""
        await measuring.measure(self, round)

    def decide(self, round: Round) -> None:
        """Every monitor's readings, and what happens next."""
        if not round.lacks(Round.decision):
            decide.check_rule(round)
            return
        rule, baselines = self.rule(), self.baselines(round)
        if round.lacks(Round.readings):
            round.readings = decide.read(round, baselines, self.main, self.recipe)
        round.decision = decide.decide(round, baselines, rule, self.history, self.recipe)

    def commit(self, round: Round) -> None:
        """From here on the round exists, and its tables never change."""
        for counts in judging.unreadable(round):
            self.event("unreadable", round, **counts)
        self.journal.end()
        round.commit()
        self.event("round_committed", round, action=round.decision.action)
        retention.prune(self.store, self.rounds, self.recipe)
        self.committed(round.number)

    # -- what the steps share -------------------------------------------------------

    def begin(self) -> None:
        """What is fixed for all rounds: the probe set, and what was learned on round 0 before."""
        self.store.keep(PROBE_SET, self.setting.probe_set.to_json())
        if isinstance(self.setting.strategy, naming.Learned):
            self.setting.strategy.keep_in(self.store.path / STRATEGIES)
        if self.setting.responses is not None:
            self.setting.responses.keep_in(self.store.path / CLUSTERS)

    def encoder(self) -> Encoder:
        """The engine as a tokeniser of training examples."""
        return Encoder(self.engine, self.setting.prompts, self.recipe.dataset.learn_turns)

    def open(self, number: int) -> Round:
        """The round at work from now on; earlier ones make room in memory."""
        # All but the last: its samples say how much a remedy has to replay.
        for past in self.rounds[:-1]:
            if not self.is_baseline(past):
                past.release()
        round = Round.of(self.store.path, number, self.main)
        self.rounds.append(round)
        if not round.is_committed:
            # What was there before the round began is listed first: the rest is made from it.
            round.ledger.add_new()
            self.event("round_started", round, answers=self.journal.begin(round.folder / JOURNAL))
        return round

    def rule(self) -> DecisionRule:
        """The recipe's decision rule."""
        return decide.decision_rule(self.recipe, self.main)

    def baselines(self, round: Round) -> list[Round]:
        """The rounds that a round is compared with."""
        return plan.baselines(self.rounds, round.number, self.recipe.monitors)

    def is_baseline(self, round: Round) -> bool:
        """Whether later rounds are compared with it."""
        return plan.is_baseline(self.rounds, round.number, self.recipe.monitors)

    @property
    def history(self) -> list[Round]:
        """The rounds before the one at work."""
        return self.rounds[:-1]

    def refiner(
        self,
        round: Round,
        temperatures: tuple[float, ...],
        source: str = refine.STUDENT,
        engine: Engine | None = None,
    ) -> refine.Refiner:
        """How a problem becomes samples in a round."""
        return refine.Refiner.of(
            self.setting,
            engine or self.engine,
            round.number,
            temperatures,
            source,
            self.is_baseline(round),
        )

    def checkpoint(self, number: int) -> Path:
        """The checkpoint of a round; 0 is the base model."""
        path = self.setting.base
        if number > 0:
            path = self.store.path / self.rounds[number].training.checkpoint
        self.store.prove(path)
        return path

    def event(self, event: str, round: Round, **facts: Any) -> None:
        """Something that happened in a round, in the run's events."""
        self.store.event(event, round=round.number, **facts)

    def proven(self, checkpoint: Path, proof: str) -> None:
        """That the engine serves a checkpoint, and how it is known, in the run's events."""
        is_own = checkpoint.is_relative_to(self.store.path)
        name = str(checkpoint.relative_to(self.store.path)) if is_own else checkpoint.name
        self.store.event("weights_proven", checkpoint=name, proof=proof)

    def report(self, stage: str, done: int, total: int) -> None:
        """Progress of a stage of the round at work, or of what comes before the first."""
        note = f"round {self.rounds[-1].number}" if self.rounds else "warm start"
        self.progress(stage, done, total, note)
