"""What replay draws on.

Real demonstrations, an archive of verified samples in strategies that have become rare, and, where
there are no demonstrations, samples of round 0's model.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ouroloop.loop.records import Problem
from ouroloop.loop.rows import Example


@dataclass(frozen=True)
class Reserve:
    """Demonstrations (`Problem.solution`) and, by strategy, verified examples of earlier rounds.

    baseline: kept samples that round 0's model drafted; they stand in for demonstrations where
    there are none.
    """

    demonstrations: tuple[Problem, ...]
    archive: Mapping[str, tuple[Example, ...]]
    baseline: tuple[Example, ...] = ()

    @classmethod
    def gather(
        cls,
        demonstrations: Sequence[Problem],
        earlier: Sequence[Example],
        drafted_at_baseline: Sequence[Example] = (),
    ) -> Reserve:
        """From the task's reserve split and the examples of earlier rounds, oldest first.

        `drafted_at_baseline`: those of the rounds that round 0's model drafted.
        """
        archive: dict[str, dict[tuple[int, ...], Example]] = defaultdict(dict)
        for example in earlier:
            if example.origin == "kept" and example.strategy is not None:
                # The oldest of equal examples stays: it stands nearest to round 0.
                stored = replace(example, origin="archive")
                archive[example.strategy].setdefault(_ids(example), stored)
        kept = {name: tuple(found.values()) for name, found in sorted(archive.items())}
        baseline = [
            replace(e, origin="baseline") for e in drafted_at_baseline if e.origin == "kept"
        ]
        return cls(tuple(p for p in demonstrations if p.solution), kept, tuple(baseline))

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
        known = {_ids(example) for example in own}
        used = {example.problem_id for example in own}
        lacking = {
            strategy: max(0.0, share * (len(own) + num) - have[strategy])
            for strategy, share in sorted(target.items())
        }
        # Where all strategies together lack more than `num`, each gets its part of it.
        scale = num / max(sum(lacking.values()), num, 1)
        archived: list[Example] = []
        # No problem twice: a demonstration of one that the model solved already teaches little.
        unused = [p for p in self.demonstrations if p.id not in used]
        chosen: dict[str, Problem] = {}
        for strategy, lack in lacking.items():
            left = num - len(archived) - len(chosen)
            wanted = min(int(scale * lack + rng.random()), left)  # rounded at random: no bias
            stock = [e for e in self.archive.get(strategy, ()) if _ids(e) not in known]
            taken = rng.sample(stock, min(wanted, len(stock)))
            archived += taken
            more = [p for p in unused if p.metadata.get("strategy") == strategy]
            drawn = rng.sample(more, min(wanted - len(taken), len(more)))
            chosen |= {p.id: p for p in drawn}
        rest = [p for p in unused if p.id not in chosen]
        missing = num - len(archived) - len(chosen)
        return archived, [*chosen.values(), *rng.sample(rest, min(missing, len(rest)))]

    def even(self, num: int, rng: random.Random) -> list[Problem]:
        """At most `num` demonstrations drawn evenly."""
        return rng.sample(self.demonstrations, min(num, len(self.demonstrations)))

    def of_baseline(self, num: int, own: Sequence[Example], rng: random.Random) -> list[Example]:
        """At most `num` samples of round 0's model drawn evenly; none beside demonstrations.

        None that `own` has: in a round that round 0's model drafts again, they may be the same.
        """
        # Even over all families, so helpful samples come back as often as they were mixed in.
        if self.demonstrations:
            return []
        known = {_ids(example) for example in own}
        stock = [example for example in self.baseline if _ids(example) not in known]
        return rng.sample(stock, min(num, len(stock)))


def _ids(example: Example) -> tuple[int, ...]:
    """What makes two examples the same for training."""
    return example.prompt_token_ids + example.completion_token_ids
