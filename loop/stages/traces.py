"""Round 0's answers, chosen once and scored under every round's model.

Nothing is sampled for it, so that what a round says of them has no sampling noise.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Scored
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow, TraceRow
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.prompts import ask
from ouroloop.loop.stages.refine import Progress


def choose(rows: Sequence[ProbeRow], most: int, gold: bool = True) -> list[TraceRow]:
    """At most `most` answers of each problem, dealt out over its groups in turn.

    Groups are the strategies of right answers; of a problem without a scored answer the response
    clusters. The largest group comes first, and of a group its answers as they were drawn: a fair
    draw from the model, no text twice. An answer that was cut by length has no end to score.
    gold: false: nobody may see which answers are right.
    """
    scored = {row.problem for row in rows if gold and row.correct is not None}
    num = Counter(row.problem for row in rows if row.kind == "sample")
    found: dict[str, dict[str, list[ProbeRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        # Where nobody scores, a strategy would be a guess about text that may hold no calculation.
        group = row.strategy if row.problem in scored else row.cluster or row.strategy
        is_right = row.correct == 1 or row.problem not in scored
        if row.kind == "sample" and is_right and group is not None and not row.truncated:
            found[row.problem][group].append(row)
    return [
        TraceRow(
            problem=problem,
            family=row.family,
            slice=row.slice,
            group=group,
            share=len(groups[group]) / num[problem],
            logprob=None,
            num_tokens=None,
            text=row.text,
        )
        for problem, groups in found.items()
        for group, row in islice(_dealt(groups), most)
    ]


# A tuple, so that whoever prints it need not ask whether there is one.
def costs(config: ProbeConfig, num_problems: int) -> tuple[str, ...]:
    """A sentence: what a round scores, beside what its probe samples; none where it scores none."""
    if not config.traces:
        return ()
    # In texts, not tokens: before round 0 nobody knows how long they will be.
    scored, sampled = num_problems * config.traces, num_problems * (config.samples + 1)
    what = (
        f"up to {config.traces} answers of round 0 to each of {num_problems} problems are scored"
        f" every round, without sampling noise: at most {scored:,} texts, one forward pass each,"
        f" beside {sampled:,} answers that the probe samples token by token"
    )
    return (what,)


def _dealt(groups: dict[str, list[ProbeRow]]) -> Iterator[tuple[str, ProbeRow]]:
    """One answer of every group, then a second one of each, and so on."""
    # By name among equals: the order must not hang on which sample came first.
    order = sorted(groups, key=lambda group: (-len(groups[group]), group))
    distinct = {group: list({row.text: row for row in groups[group]}.values()) for group in order}
    for turn in range(max(map(len, distinct.values()))):
        for group in order:
            if turn < len(distinct[group]):
                yield group, distinct[group][turn]


async def measure(
    engine: Engine, setting: Setting, first: Round, report: Progress
) -> list[TraceRow]:
    """Round 0's answers under the model that the engine serves.

    Chosen while round 0 (`first`) is at work; once it is committed, those that it scored.
    """
    # Never chosen anew: a resumed run has to score what the rounds before it did.
    traces: Sequence[TraceRow] = first.traces
    if not first.is_committed:
        recipe = setting.recipe
        traces = choose(first.probe, recipe.probe.traces, recipe.monitors.gold)
    return await score(engine, setting, traces, report)


async def score(
    engine: Engine, setting: Setting, traces: Sequence[TraceRow], report: Progress
) -> list[TraceRow]:
    """These answers under the model that the engine serves."""
    if not traces:
        return []
    problems = {problem.id: problem for problem in setting.probe_set.problems}
    report("scoring traces", 0, len(traces))
    # The text as it was sampled: `answered` would put a blank where the model wrote none.
    pairs = [(ask(setting.prompts, problems[trace.problem]), trace.text) for trace in traces]
    scored = await engine.score(pairs)
    report("scoring traces", len(traces), len(traces))
    return [_row(trace, found) for trace, found in zip(traces, scored, strict=True)]


def _row(trace: TraceRow, found: Scored) -> TraceRow:
    """With its sum; None where the text did not fit into the engine's context."""
    if not found.logprobs:
        return replace(trace, logprob=None, num_tokens=None)
    return replace(trace, logprob=sum(found.logprobs), num_tokens=float(len(found.logprobs)))
