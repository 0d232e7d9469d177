"""Preference pairs of a round: of two texts that answer one prompt, the better one.

Where they come from stands in `pairs.sources`. Both texts are samples with the engine's own token
ids, neither was cut by length, and the better one was kept by the rejection filters.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ouroloop.loop.records import Completion, Problem, Sample
from ouroloop.loop.round import Round
from ouroloop.loop.rows import Example, Pair, PairOrigin, Verdict
from ouroloop.loop.stages.dataset import Screen, as_learnt
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.preferring import Comparer, Comparison
from ouroloop.loop.stages.refine import Progress, derive_seed

if TYPE_CHECKING:  # it is made of this module's neighbours
    from ouroloop.loop.setup import Setting

Judged = tuple[Sample, Verdict]


@dataclass(frozen=True)
class Candidate:
    """A pair before it is selected, each text as an example of its own."""

    chosen: Example
    rejected: Example
    origin: PairOrigin
    probability: float | None = None
    principle: str | None = None

    @property
    def problem_id(self) -> str:
        """The problem that both texts answer."""
        return self.chosen.problem_id


async def training_pairs(
    round: Round,
    samples: Sequence[Sample],
    setting: Setting,
    encoder: Encoder,
    report: Progress,
) -> list[Pair]:
    """The round's preference pairs, shuffled.

    The engine of `encoder` serves the model that compares, where two samples are compared.
    """
    recipe, config = setting.recipe, setting.recipe.pairs
    judged = list(zip(samples, round.verdicts, strict=True))
    items = {problem.id: problem for problem in setting.problems}
    seeds = Seeds(recipe.seed, round.number)
    candidates: list[Candidate] = []
    for source in config.sources:
        if source == "revision":
            candidates += from_revisions(judged, round.number)
        elif source == "gold":
            candidates += from_gold(judged, round.number, seeds)
        else:
            candidates += await compared(judged, round.number, setting, encoder, seeds, report)
    candidates = await _as_learnt(candidates, setting, encoder, items)
    screen = Screen.of(setting.problems, setting.probe_set.heldout)
    chosen = select(screen.clean(candidates), config.per_problem)
    random.Random(seeds.of("")).shuffle(chosen)
    return [_pair(candidate) for candidate in chosen]


@dataclass(frozen=True)
class Seeds:
    """What is drawn at random in a round's pairs, the same when the round is resumed."""

    run_seed: int
    number: int

    def of(self, problem_id: str) -> int:
        """The seed of a problem's pairs."""
        return derive_seed(self.run_seed, self.number, problem_id, "pairs", 0)


# -- the sources ----------------------------------------------------------------------


def from_revisions(judged: Sequence[Judged], number: int) -> list[Candidate]:
    """A kept last revision against its draft, unless every critique on the way approved.

    Each critique may appeal to another principle: the draft that one approves another rejects.
    Where a critique gives no verdict, its revision is meant to be the better text all the same.
    """
    found = []
    for sample, verdict in judged:
        answered = sample.critiques[: len(sample.revisions)]
        was_approved = bool(answered) and all(critique.approved is True for critique in answered)
        is_whole = _is_whole(sample.final) and _is_whole(sample.draft)
        if verdict.kept and sample.revisions and is_whole and not was_approved:
            chosen = _example(sample, sample.final, number)
            rejected = _example(sample, sample.draft, number)
            found.append(Candidate(chosen, rejected, "revision"))
    return found


def from_gold(judged: Sequence[Judged], number: int, seeds: Seeds) -> list[Candidate]:
    """A kept right sample against a wrong one of the same prompt, each sample once.

    What nobody could grade is not wrong.
    """
    found = []
    for group in by_prompt(judged):
        right = [sample for sample, verdict in group if verdict.kept and verdict.correct]
        wrong = [sample for sample, verdict in group if verdict.correct is False]
        rng = random.Random(seeds.of(group[0][0].problem_id))
        rng.shuffle(right)
        rng.shuffle(wrong)
        for better, worse in zip(right, wrong, strict=False):
            chosen = _example(better, better.final, number)
            rejected = _example(worse, worse.final, number)
            found.append(Candidate(chosen, rejected, "gold"))
    return found


async def compared(
    judged: Sequence[Judged],
    number: int,
    setting: Setting,
    encoder: Encoder,
    seeds: Seeds,
    report: Progress,
) -> list[Candidate]:
    """Two kept samples of a prompt, of which the served model prefers one surely enough."""
    config = setting.recipe.pairs
    items = {problem.id: problem for problem in setting.problems}
    seen = setting.reasoning.seen if setting.reasoning else str
    drawn = comparable(judged, config.per_problem, seeds)
    comparisons = [
        Comparison(items[a.problem_id], seen(a.final.text), seen(b.final.text), seeds.of(a.id))
        for a, b in drawn
    ]
    comparer = Comparer.of(config, encoder.prompts.chat)
    found = []
    preferences = await comparer.compare(encoder.engine, comparisons, report)
    for (a, b), preference in zip(drawn, preferences, strict=True):
        probability = preference.first_is_better
        if probability is None:
            continue
        if probability < 0.5:
            a, b, probability = b, a, 1 - probability
        if probability >= config.confidence:
            chosen, rejected = _example(a, a.final, number), _example(b, b.final, number)
            found.append(Candidate(chosen, rejected, "compared", probability, preference.principle))
    return found


def comparable(
    judged: Sequence[Judged], most: int | None, seeds: Seeds
) -> list[tuple[Sample, Sample]]:
    """Kept samples of one prompt in twos, each once; at most `most` twos of a problem."""
    found: list[tuple[Sample, Sample]] = []
    count: Counter[str] = Counter()
    for group in by_prompt(judged):
        kept = [sample for sample, verdict in group if verdict.kept]
        problem_id = group[0][0].problem_id
        random.Random(seeds.of(problem_id)).shuffle(kept)
        for a, b in zip(kept[::2], kept[1::2], strict=False):
            is_full = most is not None and count[problem_id] >= most
            if a.final.text != b.final.text and not is_full:
                found.append((a, b))
                count[problem_id] += 1
    return found


def by_prompt(judged: Iterable[Judged]) -> Iterator[list[Judged]]:
    """The whole samples of each prompt. One problem may be asked under several system prompts."""
    groups: dict[tuple[str, tuple[int, ...]], list[Judged]] = defaultdict(list)
    for sample, verdict in judged:
        if _is_whole(sample.final):
            groups[(sample.problem_id, sample.draft.prompt_token_ids)].append((sample, verdict))
    yield from groups.values()


# -- from candidates to pairs -----------------------------------------------------------


def select(candidates: Iterable[Candidate], per_problem: int | None) -> list[Candidate]:
    """Without repetitions and pairs of equal texts; at most `per_problem` of a problem.

    Two texts are one pair whichever is the better one: the first source decides.
    """
    seen: set[tuple[tuple[int, ...], frozenset[tuple[int, ...]]]] = set()
    count: Counter[str] = Counter()
    selected = []
    for candidate in candidates:
        chosen, rejected = candidate.chosen, candidate.rejected
        texts = frozenset((chosen.completion_token_ids, rejected.completion_token_ids))
        key = (chosen.prompt_token_ids, texts)
        is_full = per_problem is not None and count[candidate.problem_id] >= per_problem
        is_one_text = chosen.text.strip() == rejected.text.strip()
        if key not in seen and not is_full and not is_one_text:
            seen.add(key)
            count[candidate.problem_id] += 1
            selected.append(candidate)
    return selected


async def _as_learnt(
    candidates: Sequence[Candidate],
    setting: Setting,
    encoder: Encoder,
    items: Mapping[str, Problem],
) -> list[Candidate]:
    """The candidates with both texts, and their prompt, as the recipe has them learnt."""
    chosen = await as_learnt([c.chosen for c in candidates], setting, encoder, items)
    rejected = await as_learnt([c.rejected for c in candidates], setting, encoder, items)
    return [
        replace(candidate, chosen=better, rejected=worse)
        for candidate, better, worse in zip(candidates, chosen, rejected, strict=True)
    ]


def _pair(candidate: Candidate) -> Pair:
    chosen, rejected = candidate.chosen, candidate.rejected
    assert chosen.sample_id is not None and rejected.sample_id is not None
    return Pair(
        problem_id=chosen.problem_id,
        prompt_token_ids=chosen.prompt_token_ids,
        chosen_token_ids=chosen.completion_token_ids,
        rejected_token_ids=rejected.completion_token_ids,
        chosen=chosen.text,
        rejected=rejected.text,
        origin=candidate.origin,
        round=chosen.round,
        chosen_id=chosen.sample_id,
        rejected_id=rejected.sample_id,
        probability=candidate.probability,
        principle=candidate.principle,
    )


def _example(sample: Sample, text: Completion, number: int) -> Example:
    return Example(
        problem_id=sample.problem_id,
        prompt_token_ids=sample.draft.prompt_token_ids,
        completion_token_ids=text.token_ids,
        text=text.text,
        origin="kept",
        round=number,
        sample_id=sample.id,
    )


def _is_whole(text: Completion) -> bool:
    """Whether it ended by itself: a text cut by length is never trained on."""
    return text.finish_reason == "stop" and bool(text.token_ids)
