"""The stock that re-injection draws on.

Real demonstrations, and an archive of verified samples in strategies that have become rare.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ouroloop.evals.tasks import Prompts
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Example, Problem
from ouroloop.loop.stages.prompts import render


@dataclass(frozen=True)
class Reserve:
    """Demonstrations (`Problem.solution`) and, by strategy, verified examples of earlier rounds."""

    demonstrations: tuple[Problem, ...]
    archive: Mapping[str, tuple[Example, ...]]

    @classmethod
    def gather(
        cls, demonstrations: Sequence[Problem], earlier: Sequence[Sequence[Mapping[str, Any]]]
    ) -> Reserve:
        """From the task's reserve split and the example tables of earlier rounds (oldest first)."""
        archive: dict[str, dict[tuple[int, ...], Example]] = defaultdict(dict)
        for rows in earlier:
            for row in rows:
                if row["origin"] == "kept" and row["strategy"] is not None:
                    example = example_from_row(row, "archive")
                    archive[row["strategy"]].setdefault(
                        example.prompt_token_ids + example.completion_token_ids, example
                    )
        kept = {name: tuple(found.values()) for name, found in sorted(archive.items())}
        return cls(tuple(p for p in demonstrations if p.solution), kept)

    def refill(
        self, own: Sequence[Example], num: int, target: Mapping[str, float], rng: random.Random
    ) -> tuple[list[Example], list[Problem]]:
        """`num` (archived examples, demonstrations), as far as the stock reaches.

        That bring the strategies of `own` towards their `target` shares.

        A strategy lacks what its target share of the whole set is above what it has; when all lack
        more than `num`, each gets its part. Verified samples of earlier rounds come first: they
        stand on problems where the strategy was alive, in the model's own words. What is then still
        missing is made up by demonstrations drawn evenly.
        """
        have = Counter(e.strategy for e in own)
        known = {e.prompt_token_ids + e.completion_token_ids for e in own}
        lacking = {
            s: max(0.0, share * (len(own) + num) - have[s]) for s, share in sorted(target.items())
        }
        scale = num / max(sum(lacking.values()), num, 1)
        archived: list[Example] = []
        used = {e.problem_id for e in own}
        unused = [p for p in self.demonstrations if p.id not in used]
        chosen: dict[str, Problem] = {}
        for strategy, lack in lacking.items():
            wanted = min(int(scale * lack + rng.random()), num - len(archived) - len(chosen))
            stock = [
                e
                for e in self.archive.get(strategy, ())
                if e.prompt_token_ids + e.completion_token_ids not in known
            ]
            taken = rng.sample(stock, min(wanted, len(stock)))
            archived += taken
            demonstrations = [p for p in unused if p.metadata.get("strategy") == strategy]
            chosen |= {
                p.id: p
                for p in rng.sample(demonstrations, min(wanted - len(taken), len(demonstrations)))
            }
        rest = [p for p in unused if p.id not in chosen]
        return archived, [
            *chosen.values(),
            *rng.sample(rest, min(num - len(archived) - len(chosen), len(rest))),
        ]

    def even(self, num: int, rng: random.Random) -> list[Problem]:
        """At most `num` demonstrations drawn evenly."""
        return rng.sample(self.demonstrations, min(num, len(self.demonstrations)))


async def as_examples(
    chosen: Sequence[Problem],
    engine: Engine,
    prompts: Prompts,
    number: int,
    origin: Literal["demonstration", "gold"] = "demonstration",
) -> list[Example]:
    """Demonstrations as examples of round `number`, tokenised by the engine that samples."""
    pairs = [
        (render(prompts, prompts.draft, question=p.question), p.solution or "") for p in chosen
    ]
    ids = await engine.encode(pairs) if pairs else []
    return [
        Example(
            p.id,
            tuple(prompt),
            tuple(completion),
            p.solution or "",
            origin,
            number,
            p.metadata.get("strategy"),
        )
        for p, (prompt, completion) in zip(chosen, ids, strict=True)
    ]


def example_from_row(row: Mapping[str, Any], origin: Any) -> Example:
    """An Example from a row of examples.parquet, under another origin."""
    return Example(
        problem_id=row["problem_id"],
        prompt_token_ids=tuple(row["prompt_token_ids"]),
        completion_token_ids=tuple(row["completion_token_ids"]),
        text=row["text"],
        origin=origin,
        round=row["round"],
        strategy=row["strategy"],
        sample_id=row["sample_id"],
    )
