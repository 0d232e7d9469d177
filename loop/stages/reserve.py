"""What replay draws on.

Real demonstrations, an archive of verified samples in strategies that have become rare, and, where
there are no demonstrations or nobody verifies, samples of round 0's model.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ouroloop.loop.records import Problem
from ouroloop.loop.rows import Example
from ouroloop.loop.stages.earlier import Kept, Place, drawn, key_of
from ouroloop.loop.stages.sources import of_round


@dataclass(frozen=True)
class Reserve:
    """Demonstrations (`Problem.solution`) and verified examples of earlier rounds.

    Attributes:
        demonstrations: solved problems.
        earlier: what earlier rounds kept, oldest first.
        baseline: what was kept in rounds that round 0's model drafted; it stands in for
            demonstrations where there are none, and for the archive of free text.
    """

    demonstrations: tuple[Problem, ...]
    earlier: Sequence[Kept]
    baseline: Sequence[Kept] = ()

    @classmethod
    def gather(
        cls,
        demonstrations: Sequence[Problem],
        earlier: Sequence[Kept],
        drafted_at_baseline: Sequence[Kept] = (),
    ) -> Reserve:
        """From the task's reserve split and earlier rounds, oldest first.

        `drafted_at_baseline`: the rounds that round 0's model drafted.
        """
        solved = tuple(p for p in demonstrations if p.solution)
        return cls(solved, earlier, drafted_at_baseline)

    def refill(
        self, own: Sequence[Example], num: int, target: Mapping[str, float], rng: random.Random
    ) -> tuple[list[Example], list[Problem]]:
        """`num` (archived examples, demonstrations), as far as the stock reaches.

        They bring the strategies of `own` towards their `target` shares. A strategy lacks what its
        target share of the whole set is above what it has; when all lack more than `num`, each gets
        its part. Verified samples of earlier rounds come first: they stand on problems where the
        strategy was alive, in the model's own words. What is then still missing is made up by
        demonstrations drawn evenly.
        """
        have = Counter(example.strategy for example in own)
        stock = self._archive({key_of(example) for example in own}) if num else {}
        used = {example.problem_id for example in own}
        lacking = {
            strategy: max(0.0, share * (len(own) + num) - have[strategy])
            for strategy, share in sorted(target.items())
        }
        # Where all strategies together lack more than `num`, each gets its part of it.
        scale = num / max(sum(lacking.values()), num, 1)
        archived: list[Place] = []
        # No problem twice: a demonstration of one that the model solved already teaches little.
        unused = [p for p in self.demonstrations if p.id not in used]
        chosen: dict[str, Problem] = {}
        for strategy, lack in lacking.items():
            left = num - len(archived) - len(chosen)
            wanted = min(int(scale * lack + rng.random()), left)  # rounded at random: no bias
            shelf = stock.get(strategy, [])
            taken = rng.sample(shelf, min(wanted, len(shelf)))
            archived += taken
            more = [p for p in unused if p.metadata.get("strategy") == strategy]
            solved = rng.sample(more, min(wanted - len(taken), len(more)))
            chosen |= {p.id: p for p in solved}
        rest = [p for p in unused if p.id not in chosen]
        missing = num - len(archived) - len(chosen)
        more = rng.sample(rest, min(missing, len(rest)))
        return drawn(archived, "archive"), [*chosen.values(), *more]

    def _archive(self, known: Collection[bytes]) -> dict[str, list[Place]]:
        """Strategy -> what is kept of it, without what is known already; no two are the same."""
        found: dict[str, dict[bytes, Place]] = defaultdict(dict)
        for place in chain.from_iterable(kept.places() for kept in self.earlier):
            if place.strategy is not None and place.key not in known:
                # The oldest of equal examples stays: it stands nearest to round 0.
                found[place.strategy].setdefault(place.key, place)
        return {strategy: list(shelf.values()) for strategy, shelf in found.items()}

    def even(self, num: int, rng: random.Random) -> list[Problem]:
        """At most `num` demonstrations drawn evenly."""
        return rng.sample(self.demonstrations, min(num, len(self.demonstrations)))

    def of_baseline(self, num: int, own: Sequence[Example], rng: random.Random) -> list[Example]:
        """At most `num` samples of round 0's model drawn evenly.

        None that `own` has: in a round that round 0's model drafts again, they may be the same.
        """
        # Even over all families, so helpful samples come back as often as they were mixed in.
        if not num:
            return []
        known = {key_of(example) for example in own}
        stock = [place for place in self._of_round_0() if place.key not in known]
        return drawn(rng.sample(stock, min(num, len(stock))), "baseline")

    def _of_round_0(self) -> Iterator[Place]:
        """What its model drafted, in rounds of its own and beside the student in later ones."""
        whole = {id(kept) for kept in self.baseline}
        yield from chain.from_iterable(kept.places() for kept in self.baseline)
        for kept in self.earlier:
            if id(kept) not in whole:
                yield from (place for place in kept.places() if place.source == of_round(0))
