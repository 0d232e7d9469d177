"""What replay draws on.

Real demonstrations, and an archive of verified samples in strategies that have become rare.
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
    """Demonstrations (`Problem.solution`) and, by strategy, verified examples of earlier rounds."""

    demonstrations: tuple[Problem, ...]
    archive: Mapping[str, tuple[Example, ...]]

    @classmethod
    def gather(cls, demonstrations: Sequence[Problem], earlier: Sequence[Example]) -> Reserve:
        """From the task's reserve split and the examples of earlier rounds, oldest first."""
        archive: dict[str, dict[tuple[int, ...], Example]] = defaultdict(dict)
        for example in earlier:
            if example.origin == "kept" and example.strategy is not None:
                stored = replace(example, origin="archive")
                archive[example.strategy].setdefault(_ids(example), stored)
        kept = {name: tuple(found.values()) for name, found in sorted(archive.items())}
        return cls(tuple(p for p in demonstrations if p.solution), kept)

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
        scale = num / max(sum(lacking.values()), num, 1)
        archived: list[Example] = []
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


def _ids(example: Example) -> tuple[int, ...]:
    """What makes two examples the same for training."""
    return example.prompt_token_ids + example.completion_token_ids
