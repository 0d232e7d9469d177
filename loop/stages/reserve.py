"""The stock that re-injection draws on: real demonstrations, and an archive of verified samples in strategies that have become rare."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.tasks import Prompts
from loop.engines.base import Engine
from loop.records import Example, Problem
from loop.stages.prompts import render


@dataclass(frozen=True)
class Reserve:
    """Demonstrations (`Problem.solution`) and, by strategy, verified examples of earlier rounds."""

    demonstrations: tuple[Problem, ...]
    archive: Mapping[str, tuple[Example, ...]]

    @classmethod
    def gather(cls, demonstrations: Sequence[Problem], earlier: Sequence[Sequence[Mapping[str, Any]]]) -> Reserve:
        """From the task's reserve split and the example tables of earlier rounds (oldest first)."""
        archive: dict[str, dict[tuple[int, ...], Example]] = defaultdict(dict)
        for rows in earlier:
            for row in rows:
                if row["origin"] == "kept" and row["strategy"] is not None:
                    example = example_from_row(row, "archive")
                    archive[row["strategy"]].setdefault(example.prompt_token_ids + example.completion_token_ids, example)
        kept = {name: tuple(found.values()) for name, found in sorted(archive.items())}
        return cls(tuple(p for p in demonstrations if p.solution), kept)

    def rare(self, kept: Sequence[Example], num: int, rng: random.Random) -> list[Example]:
        """At most `num` archived examples of the strategies that are rare among `kept`: those below an equal share, the rarest most often."""
        shares = Counter(e.strategy for e in kept if e.strategy)
        total = max(1, sum(shares.values()))
        rare = {name: 1.0 / (shares[name] + 1) for name in self.archive if shares[name] / total < 1.0 / len(self.archive)}
        if not rare or num <= 0:
            return []
        wanted = Counter(rng.choices(list(rare), list(rare.values()), k=num))
        return [e for name, count in sorted(wanted.items()) for e in rng.sample(self.archive[name], min(count, len(self.archive[name])))]

    async def demonstrate(self, engine: Engine, prompts: Prompts, num: int, number: int, rng: random.Random) -> list[Example]:
        """At most `num` demonstrations as examples, tokenised by the engine that samples."""
        chosen = rng.sample(self.demonstrations, min(num, len(self.demonstrations)))
        pairs = [(render(prompts, prompts.draft, question=p.question), p.solution or "") for p in chosen]
        ids = await engine.encode(pairs) if pairs else []
        return [
            Example(p.id, tuple(prompt), tuple(completion), p.solution or "", "anchor", number, p.metadata.get("strategy"))
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
