"""Real texts: samples of a model on prompts, people's conversations, models' GSM8K solutions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Problems of GSM8K that are read: four solutions of each.
GSM8K_PROBLEMS = 100
# Samples of a prompt that the baseline has, where a prompt has more; the others are the round's.
BASELINE_SAMPLES = 12


@dataclass(frozen=True)
class Source:
    """Texts with their prompts' ids.

    Attributes:
        name: for the tables.
        baseline, now: rows of the baseline and of the round; the same rows where a prompt has too
            few samples for two draws.
    """

    name: str
    texts: tuple[str, ...]
    problems: tuple[str, ...]
    baseline: tuple[int, ...]
    now: tuple[int, ...]

    def rows(self, chosen: Sequence[int]) -> tuple[list[str], list[str]]:
        """(texts, problems) of these rows."""
        return [self.texts[row] for row in chosen], [self.problems[row] for row in chosen]


def sources(data: Path, samples: Path) -> Iterator[Source]:
    """Those whose files are there.

    Args:
        data: what OUROLOOP_DATA names.
        samples: a folder of `NAME_samples.jsonl` with samples of a model at temperature 1,
            `problem` and `text` in each row.
    """
    for path in sorted(samples.glob("*_samples.jsonl")):
        name = path.name.removesuffix("_samples.jsonl")
        rows = [(row["problem"], row["text"]) for row in _rows(path)]
        yield _two_draws(f"SmolLM2-135M on {name}", rows)
    conversations = data / "constitutional" / "red_team_prompts.jsonl"
    if conversations.exists():
        rows = [
            (row["id"], message["content"])
            for row in _rows(conversations)
            for message in row["messages"]
            if message["role"] == "assistant"
        ]
        yield _one_draw("red-team conversations", rows)
    solutions = data / "gsm8k" / "model_solutions_first_660.jsonl"
    if solutions.exists():
        rows = [
            (f"gsm8k-{number}", value["solution"])
            for number, row in enumerate(_rows(solutions))
            for value in row.values()
            if isinstance(value, dict) and number < GSM8K_PROBLEMS
        ]
        yield _one_draw("GSM8K solutions of four models", rows)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _one_draw(name: str, rows: list[tuple[str, str]]) -> Source:
    # Two or four answers to a prompt are too few for a baseline and a round of their own.
    every = tuple(range(len(rows)))
    return Source(name, tuple(t for _, t in rows), tuple(p for p, _ in rows), every, every)


def _two_draws(name: str, rows: list[tuple[str, str]]) -> Source:
    """A prompt's samples in random order: the first are the baseline's."""
    # Shuffled: a file may hold a prompt's samples sorted by something.
    rng = np.random.default_rng(0)
    problems = np.array([problem for problem, _ in rows])
    baseline, now = [], []
    for problem in sorted(set(problems)):
        own = rng.permutation(np.flatnonzero(problems == problem)).tolist()
        baseline += own[:BASELINE_SAMPLES]
        now += own[BASELINE_SAMPLES:]
    return Source(
        name,
        tuple(text for _, text in rows),
        tuple(problems.tolist()),
        tuple(baseline),
        tuple(now),
    )
