"""Which of a round's samples are shown one by one: a stratified choice, the same in every sync."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

from ouroloop.loop.views.cells import strategy_of
from ouroloop.loop.views.reader import Json, RoundData


def choose_samples(round: RoundData, limit: int, seed: int) -> list[Json]:
    """Up to `limit` verdicts of a round: kept and rejected in turn, every stratum in turn.

    The strata of kept samples are their strategies (of what nobody scored: response clusters),
    those of rejected ones the first reason against them. Small strata are shown as soon as large
    ones, so that shares of what is shown are not shares of the round.
    """
    rows = round.verdicts.to_dict("records")
    rng = random.Random(f"{seed}/{round.number}/samples")
    kept = _in_turn((row for row in rows if row["kept"]), strategy_of, rng)
    rejected = _in_turn((row for row in rows if not row["kept"]), _reason, rng)
    # Where one side runs out, the other fills the rest.
    mixed = [row for pair in zip_longest(kept, rejected) for row in pair if row is not None]
    return mixed[:limit]


def choose_answers(round: RoundData, limit: int, seed: int) -> list[Json]:
    """One answer to each of up to `limit` probe problems, the same ones in every round.

    The problems of each family and slice in turn. `index` is added: the answer's place among its
    problem's samples.
    """
    if not len(round.probe):
        return []
    firsts: dict[str, Json] = {}
    for row in round.probe[round.probe["kind"] == "sample"].to_dict("records"):
        firsts.setdefault(str(row["problem"]), {**row, "index": 0})
    # Not of the round: whoever follows a problem over the rounds finds it in each.
    rng = random.Random(f"{seed}/probe")
    # Sorted: a round's rows come in the order in which its answers were finished.
    rows = [firsts[problem] for problem in sorted(firsts)]
    return _in_turn(rows, lambda row: f"{row['family']}/{row['slice']}", rng)[:limit]


def _reason(row: Json) -> str:
    return "".join(map(str, row["reasons"][:1]))


def _in_turn(
    rows: Iterable[Json], stratum_of: Callable[[Json], str], rng: random.Random
) -> list[Json]:
    """One row of each stratum, then a second one of each; the largest strata first."""
    strata: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        strata[stratum_of(row)].append(row)
    ordered: list[Sequence[Json]] = sorted(strata.values(), key=len, reverse=True)
    # The largest first: where there are more strata than places, rare ones are left out.
    shuffled = [rng.sample(found, len(found)) for found in ordered]
    return [row for turn in zip_longest(*shuffled) for row in turn if row is not None]
