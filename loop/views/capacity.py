"""A capacity plan as text: tokens by purpose, memory, time, disk (`ouroloop plan --hardware`)."""

from __future__ import annotations

from collections.abc import Iterator

from ouroloop.loop.capacity.plan import Capacity, Need
from ouroloop.loop.costs import Purpose
from ouroloop.loop.views.costs import counted
from ouroloop.loop.views.progress import clock, markdown
from ouroloop.loop.views.statistics import DASH

GB = 1e9


def text(found: Capacity) -> str:
    """Tables and notes."""
    memory, hardware = found.memory, found.hardware
    model = f"{counted(found.shape.num_parameters)} weights"
    lines = [
        f"{found.recipe.name} on {hardware.name}: {model}, {found.recipe.rounds} rounds after"
        f" round 0. Lengths and shares: {found.measured.about}.",
        "",
        markdown([_row(name, need) for name, need in _rows(found)]),
        "",
    ]
    lines += _rates(found)
    lines += ["", markdown([{"memory of a device": a, "GB": b} for a, b in _memory(found)]), ""]
    lines.append(
        f"engines: {memory.num_engines}, devices of each: {memory.devices_an_engine}, texts at a"
        f" time in each: {memory.concurrency}; {_fits(found)}"
    )
    lines.append(
        f"disk: {_gb(found.disk)} GB, of it {found.num_checkpoints} checkpoints of"
        f" {_gb(found.checkpoint)} GB"
    )
    return "\n".join([*lines, *(f"* {note}" for note in found.notes)])


def _rows(found: Capacity) -> Iterator[tuple[str, Need]]:
    """Round 0, the other baseline rounds together, an ordinary round, and the whole run."""
    baselines = [n for n in found.recipe.monitors.baselines if 0 < n < len(found.rounds)]
    yield "round 0", found.rounds[0]
    for number in baselines:
        yield f"round {number}, a baseline", found.rounds[number]
    others = [n for n in range(1, len(found.rounds)) if n not in baselines]
    if others:
        yield "every other round", found.rounds[others[0]]
    yield "run", found.run


def _row(name: str, need: Need) -> dict[str, str]:
    row = {"tokens": name}
    row |= {purpose.value: _count(need.tokens[purpose]) for purpose in Purpose}
    row["sampled"] = counted(need.sampled)
    row["watched"] = f"{100 * need.watched:.0f} %"
    row["trained"] = _count(need.trained)
    row["time"] = DASH if need.seconds is None else clock(need.seconds)
    return row


def _count(tokens: float) -> str:
    return counted(tokens) if tokens else DASH


def _rates(found: Capacity) -> list[str]:
    if found.rates is None:
        return [f"rates: {found.source}"]
    rates = found.rates
    return [
        f"rates, tokens a second: sampling {rates.sampling:,.0f}, scoring {rates.scoring:,.0f},"
        f" training {rates.training:,.0f}; {found.source}"
    ]


def _memory(found: Capacity) -> Iterator[tuple[str, str]]:
    memory = found.memory
    parts = {
        "served weights": memory.weights,
        "keys and values": memory.cache,
        f"training: {memory.how}": memory.states,
        "activations and logits of a batch": memory.kept,
        "at the fullest moment": memory.most,
    }
    yield from ((name, _gb(size)) for name, size in parts.items())


def _gb(size: float) -> str:
    """Three digits, and never as a power of ten."""
    return f"{float(f'{size / GB:.3g}'):,g}"


def _fits(found: Capacity) -> str:
    if found.hardware.memory is None:
        return "a CPU's memory is not looked at (`ouroloop run --check` does)"
    there = f"{found.hardware.memory / GB:.0f} GB of a device"
    return f"it fits into {there}" if found.fits else f"IT DOES NOT FIT into {there}"
