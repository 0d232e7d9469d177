"""From kept samples to a training set: own examples, then replay, then decontamination."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, TypeVar

from ouroloop.evals.conversations import questions_of
from ouroloop.evals.near import NO_COPIES, Copies
from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Task
from ouroloop.loop.config import DatasetConfig
from ouroloop.loop.records import Problem, Sample
from ouroloop.loop.round import Round
from ouroloop.loop.rows import (
    AnyOrigin,
    By,
    Copy,
    Example,
    RoundPlan,
    Screened,
    Verdict,
)
from ouroloop.loop.stages import plan as plans
from ouroloop.loop.stages.earlier import Kept, Place, drawn
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.judging import graded
from ouroloop.loop.stages.preflight import adjusted
from ouroloop.loop.stages.refine import derive_seed
from ouroloop.loop.stages.remedy import shares_to_keep
from ouroloop.loop.stages.reserve import Reserve
from ouroloop.monitors.fence import Unreadable

if TYPE_CHECKING:  # it is made of this module's neighbours
    from ouroloop.loop.setup import Setting


class OfProblem(Protocol):
    """What is trained on: an example, or a preference pair."""

    @property
    def problem_id(self) -> str:
        """The problem that it answers."""
        ...

    @property
    def origin(self) -> AnyOrigin:
        """Where it comes from."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """All that would be learnt."""
        ...


T = TypeVar("T", bound=OfProblem)


@dataclass(frozen=True)
class Sources:
    """What a round's training set is made of.

    Attributes:
        kept: this round's kept samples.
        earlier: what the rounds kept that the model descends from, oldest first; it joins where the
            policy accumulates.
        gold: the round's problems; their solutions join when the recipe says so.
        reserve: what replay draws on.
        shares: strategy -> share among round 0's right answers, which the archive brings back; of
            free text empty: what it replays instead is round 0's.
    """

    kept: Sequence[Example]
    reserve: Reserve
    earlier: Sequence[Kept] = ()
    gold: Sequence[Problem] = ()
    shares: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Screen:
    """Decontamination: which examples may be trained on.

    Attributes:
        questions: problem id -> all questions of its conversation.
        heldout: normalised held-out questions; no example may ask one of them.
        copies: the same questions, for near copies and for texts that hold one.
    """

    questions: Mapping[str, Sequence[str]]
    heldout: Collection[str]
    copies: Copies = NO_COPIES

    @classmethod
    def of(
        cls, problems: Iterable[Problem], heldout: Collection[str], copies: Copies = NO_COPIES
    ) -> Screen:
        """The screen of all that may be trained on, every question of a conversation included."""
        asked = {problem.id: tuple(questions_of(problem)) for problem in problems}
        return cls(asked, heldout, copies)

    def clean(self, candidates: Sequence[T]) -> tuple[list[T], Screened]:
        """Those that neither ask nor hold a held-out question, and what was left out."""
        kept: list[T] = []
        left_out: list[Copy] = []
        # Many examples answer one problem.
        asked: dict[str, tuple[By, str] | None] = {}
        for each in candidates:
            name = each.problem_id
            if name not in asked:
                asked[name] = self._asked(self.questions.get(name, ()))
            copy = asked[name] or self._held(each.texts)
            if copy is None:
                kept.append(each)
            else:
                left_out.append(Copy(name, each.origin, *copy))
        return kept, Screened(len(candidates), tuple(left_out))

    def _asked(self, questions: Iterable[str]) -> tuple[By, str] | None:
        """How a held-out question is asked by one of these, and which one."""
        for question in questions:
            if normalised(question) in self.heldout:
                return "question", question
            near = self.copies.find(question)
            if near is not None:
                return "near", near
        return None

    def _held(self, texts: Iterable[str]) -> tuple[By, str] | None:
        """The held-out question that one of these texts holds."""
        held = (self.copies.find(text) for text in texts)
        found = next((question for question in held if question is not None), None)
        return None if found is None else ("text", found)


async def training_set(
    round: Round,
    history: Sequence[Round],
    samples: Sequence[Sample],
    setting: Setting,
    encoder: Encoder,
) -> list[Example]:
    """The round's training set. `history`: the rounds before it, round 0 first."""
    recipe, config = setting.recipe, setting.recipe.dataset
    plan = adjusted(round.plan, round.preflight, recipe.monitors.guard)
    practised = plans.draw(setting.problems, plan, recipe.seed)
    items = {p.id: p for p in (*setting.problems, *setting.demonstrations)}
    kept = kept_examples(samples, round.verdicts, round.number)
    kept = await as_learnt(kept, setting, encoder, items)
    # Round 0 is what the loop must not lose: its shares are the target of every later round.
    shares = shares_to_keep(history, setting.probe_set.main, recipe.monitors.gold)
    real = setting.demonstrations if config.replay_source == "demonstrations" else ()
    at_baseline = [past for past in history[1:] if past.plan.sample_from == 0]
    sources = Sources(
        kept=kept,
        earlier=_kept_in(plans.lineage(history, plan.start_from)),
        gold=practised,
        reserve=Reserve.gather(real, _kept_in(history[1:]), _kept_in(at_baseline)),
        shares=shares,
    )
    # Last, over everything: a held-out question may hide among demonstrations as well.
    screen = Screen.of(items.values(), setting.probe_set.heldout, setting.copies)
    seed = derive_seed(recipe.seed, round.number, "", "dataset", 0)
    examples, round.screened = await assemble(sources, plan, config, encoder, screen, seed)
    if config.target == "answer":
        examples = await encoder.answers_only(
            examples, lambda example: final_answer(items[example.problem_id], example, setting.task)
        )
    return examples


async def as_learnt(
    examples: Sequence[Example], setting: Setting, encoder: Encoder, items: Mapping[str, Problem]
) -> list[Example]:
    """The samples as the recipe has them learnt: without thoughts, without system prompts.

    items: problem id -> problem.
    """
    learnt, thoughts = list(examples), setting.reasoning
    if thoughts is not None and thoughts.config.train == "strip":
        learnt = await encoder.with_texts(learnt, [thoughts.learnt(each.text) for each in learnt])
    if setting.recipe.dataset.erase_systems:
        learnt = await encoder.without_systems(learnt, items)
    return learnt


def final_answer(problem: Problem, example: Example, task: Task) -> str | None:
    """The answer that an example's trace ends with; None where it cannot be read."""
    grade = graded(problem, example.text, task)
    return None if isinstance(grade, Unreadable) else grade.answer


def kept_examples(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], number: int
) -> list[Example]:
    """The kept samples: draft prompt and final text, in the engine's own token ids.

    A text cut by length is never trained on.
    """
    return [
        Example(
            problem_id=sample.problem_id,
            prompt_token_ids=sample.draft.prompt_token_ids,
            completion_token_ids=sample.final.token_ids,
            text=sample.final.text,
            origin="kept",
            round=number,
            strategy=verdict.strategy,
            sample_id=sample.id,
        )
        for sample, verdict in zip(samples, verdicts, strict=True)
        if verdict.kept and sample.final.finish_reason == "stop"
    ]


async def assemble(
    sources: Sources,
    plan: RoundPlan,
    config: DatasetConfig,
    encoder: Encoder,
    screen: Screen,
    seed: int,
) -> tuple[list[Example], Screened]:
    """The round's training set, shuffled, and what decontamination left out of it.

    `plan.replay_fraction` of it is replayed, as far as the reserve reaches.
    """
    rng = random.Random(seed)
    own = own_examples(sources, config, rng)
    if config.gold:
        solved = [problem for problem in sources.gold if problem.solution]
        own += await encoder.solutions(solved, plan.round, "gold")
    replayed = await replay(own, sources, plan, encoder, rng)
    examples, screened = screen.clean([*own, *replayed])
    rng.shuffle(examples)
    return examples, screened


def own_examples(sources: Sources, config: DatasetConfig, rng: random.Random) -> list[Example]:
    """This round's kept samples under the policy: replace, accumulate, accumulate_subsample."""
    own: list[Example | Place] = list(sources.kept)
    if config.policy != "replace":
        own += chain.from_iterable(kept.places() for kept in sources.earlier)
    # `size` bounds what the model wrote itself; gold traces and replay come on top.
    most = len(own)
    if config.size:
        most = config.size
    elif config.policy == "accumulate_subsample":
        most = len(sources.kept)
    if most < len(own):
        own = rng.sample(own, most)
    # Read only what was drawn, then put it where it was.
    earlier = iter(drawn([each for each in own if isinstance(each, Place)], "earlier"))
    return [next(earlier) if isinstance(each, Place) else each for each in own]


async def replay(
    own: Sequence[Example],
    sources: Sources,
    plan: RoundPlan,
    encoder: Encoder,
    rng: random.Random,
) -> list[Example]:
    """As many replayed examples beside `own` as make up the plan's share of both together.

    A part of them are demonstrations drawn evenly, or samples of round 0's model where there are
    none; once the plan turns to the archive, the rest brings the strategies back towards round 0's
    shares. Without strategies, as of free text, the rest is of round 0's model as far as there is
    any: what later rounds kept may be what collapsed, and no verifier tells.
    """
    reserve = sources.reserve
    # share = replayed / (own + replayed), solved for what is replayed.
    wanted = round(len(own) * plan.replay_fraction / (1 - plan.replay_fraction))
    num_even = round(wanted * plan.demonstrations)
    even = reserve.even(num_even, rng)
    steady = await encoder.solutions(even, plan.round)
    if not reserve.demonstrations:
        steady += reserve.of_baseline(num_even, own, rng)
    if not plan.archive:
        return steady
    shares = sources.shares or {}
    if not shares:
        steady += reserve.of_baseline(wanted - len(steady), [*own, *steady], rng)
    archived, drawn = reserve.refill([*own, *steady], wanted - len(steady), shares, rng)
    replayed = [*steady, *archived, *await encoder.solutions(drawn, plan.round)]
    return [*replayed, *reserve.of_baseline(wanted - len(replayed), [*own, *replayed], rng)]


def _kept_in(rounds: Iterable[Round]) -> list[Kept]:
    return [Kept.in_round(round) for round in rounds]
