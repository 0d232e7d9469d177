"""Beginnings of traces: the line that each strategy calls for after given lines.

And what is sampled to compare own beginnings with true ones.

`sample_more` is a `Study.extra`: it samples what the loop does not, the line after a true beginning
and the critic's verdict on every probe sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.experiments.afterwards import serve, setting_of
from ouroloop.loop.folder.store import read_rows, write_rows
from ouroloop.loop.records import Completion, Problem, Request, Sampling
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.refine import Refiner, derive_seed, gather_bounded
from ouroloop.loop.views.reader import RoundData, read_run

# Two and three digits; missing addends, two to five calculations by one and the same strategy.
FAMILIES = ("sum2", "sum3", "missing")

# Lines sampled after each true beginning.
DRAWS = 4
MAX_LINE_TOKENS = 24

# Problems with the rows of their samples.
Samples = Sequence[tuple[Problem, Sequence[Mapping[str, Any]]]]
LINES = pa.schema({"problem": pa.string(), "beginning": pa.string(), "text": pa.string()})
CRITIQUES = pa.schema(
    {
        "problem": pa.string(),
        "index": pa.int32(),
        "approved": pa.float64(),
        "probability": pa.float64(),
    }
)


def next_lines(family: str, lines: Sequence[str]) -> dict[str, str]:
    """Strategy -> the line that it calls for after these, built on the values that they claim.

    Empty where they follow no strategy.
    """
    trace = st.parse("\n".join([*lines, "answer 0"]))
    out: dict[str, str] = {}
    if trace is None or trace.head != st.head(family, trace.a, trace.b):
        return out
    for name, maker in st.STRATEGIES[family].items():
        if (
            st.applies(name, family, trace.a)
            and (line := _next(maker(trace.a, trace.b), trace.steps)) is not None
        ):
            out[name] = line
    return out


def _next(program: st.Program, steps: Sequence[tuple[str, int]]) -> str | None:
    try:
        expected = next(program)
        for i, (expression, value) in enumerate(steps):
            if expression != expected:
                return None
            try:
                expected = program.send(value)
            except StopIteration as stop:
                return f"answer {stop.value}" if i == len(steps) - 1 else None
    except StopIteration:
        return None
    return f"{expected}={st.value_of(expected)}"


def true_lines(problem: Problem, strategy: str) -> list[str]:
    """The right trace of a problem in a strategy, line by line; empty where it does not apply."""
    a, b = problem.metadata["a"], problem.metadata["b"]
    if not st.applies(strategy, problem.family, a):
        return []
    return st.render(
        st.head(problem.family, a, b), *st.write(st.STRATEGIES[problem.family][strategy](a, b))
    ).split("\n")


@dataclass(frozen=True)
class Step:
    """A line that the model wrote after its own ones, from the first calculation on.

    beginning: the true lines that the same strategy would have written before it. on_course: its
    own lines are just those. followed: its own lines follow a strategy, whatever values they claim;
    after one that no strategy calls for, nothing is called for. right: it is the line that a
    strategy calls for there, its value true.
    """

    position: int
    beginning: tuple[str, ...]
    on_course: bool
    followed: bool
    right: bool


def steps_of(problem: Problem, text: str) -> Iterator[Step]:
    """The lines of a sample, up to the length of the true trace.

    The trace is that of the strategy that the sample follows, or followed last.
    """
    lines = text.split("\n")
    truths: list[list[str]] = []
    for at in range(1, len(lines)):
        # After a line that no strategy calls for, the last strategy that it followed counts.
        called = next_lines(problem.family, lines[:at])
        truths = [true_lines(problem, name) for name in called] if called else truths
        truths = [truth for truth in truths if len(truth) > at]
        if truths:
            beginning = next((t[:at] for t in truths if t[:at] == lines[:at]), truths[0][:at])
            yield Step(
                at,
                tuple(beginning),
                beginning == lines[:at],
                bool(called),
                lines[at] in called.values(),
            )


async def sample_more(path: Path, engine: Engine) -> None:
    """For the first and the last round.

    Lines-<round>.parquet and critiques-<round>.parquet in the run folder, unless they are there.
    """
    run = read_run(path)
    setting = setting_of(path)
    for found in (run.rounds[0], run.rounds[-1]):
        lines, critiques = (
            path / f"{name}-{found.number:03d}.parquet" for name in ("lines", "critiques")
        )
        if lines.exists() and critiques.exists():
            continue
        await serve(engine, run, found.number)
        samples = probe_samples(found, setting)
        write_rows(lines, await _lines(engine, setting, samples, found.number), LINES)
        write_rows(critiques, await _critiques(engine, setting, samples, found.number), CRITIQUES)


def probe_samples(found: RoundData, setting: Setting) -> Samples:
    """Problems of `FAMILIES` with their sampled rows of the round's probe."""
    by_problem: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in read_rows(found.path / "probe.parquet"):
        if row["kind"] == "sample":
            by_problem[row["problem"]].append(row)
    return [(p, by_problem[p.id]) for p in setting.probe_set.problems if p.family in FAMILIES]


async def _lines(
    engine: Engine, setting: Setting, samples: Samples, number: int
) -> list[dict[str, Any]]:
    """`DRAWS` next lines after every true beginning that a sample's own is compared with."""
    asked = {
        (p.id, step.beginning): p
        for p, rows in samples
        for row in rows
        for step in steps_of(p, row["text"])
    }

    async def one(problem: Problem, beginning: tuple[str, ...], draw: int) -> dict[str, Any]:
        text = "\n".join(beginning)
        prompt = setting.prompts.draft.format(question=problem.question) + text + "\n"
        seed = derive_seed(setting.recipe.seed, number, problem.id, f"line/{text}", draw)
        sampling = Sampling(
            temperature=setting.recipe.probe.temperature, max_tokens=MAX_LINE_TOKENS
        )
        answer = await engine.complete(
            Request(
                f"{number:03d}/line/{problem.id}/{len(beginning)}/{seed}", prompt, sampling, seed
            )
        )
        return {"problem": problem.id, "beginning": text, "text": answer.text.split("\n")[0]}

    jobs = [one(p, beginning, draw) for (_, beginning), p in asked.items() for draw in range(DRAWS)]
    return await gather_bounded(jobs, setting.recipe.engine.concurrency)


async def _critiques(
    engine: Engine, setting: Setting, samples: Samples, number: int
) -> list[dict[str, Any]]:
    """The critic's greedy verdict on every sample, under the round's model."""
    refiner = Refiner(engine, setting.recipe, setting.prompts, number, (1.0,), source="verifier")

    async def one(problem: Problem, index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        cut: Literal["length", "stop"] = "length" if row["truncated"] else "stop"
        text = Completion("", (), (), (), row["text"], cut, "")
        critique = await refiner.criticise(problem, index, text)
        approved = None if critique.approved is None else float(critique.approved)
        return {
            "problem": problem.id,
            "index": index,
            "approved": approved,
            "probability": critique.probability,
        }

    jobs = [one(p, i, row) for p, rows in samples for i, row in enumerate(rows)]
    return await gather_bounded(jobs, setting.recipe.engine.concurrency)
