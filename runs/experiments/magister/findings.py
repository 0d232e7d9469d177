"""What is asked of the results, and the tables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from ouroloop.loop.experiments.experiment import has
from ouroloop.loop.experiments.goals import Goal
from ouroloop.loop.experiments.study import Results
from ouroloop.loop.experiments.tables import Columns, Rows, gain, last, times
from ouroloop.monitors.estimators.stats import Estimate, mean

from .measure import FAMILIES

# Training examples -> problems that the teacher is asked.
#
# Enough for as many right solutions, one each.
PROBLEMS = {100: 160, 400: 600, 1600: 2400}

SIZES = tuple(PROBLEMS)

# Asked of the accuracy after traces over that after answers.
#
# Published are 21.99 % over 8.11 %: 2.71.
RATIO = 2.75

COLUMNS: Columns = {
    "examples": (last("examples"), ""),
    "completion tokens": (last("completion_tokens"), ""),
    "greedy, four families": (last("accuracy"), "%"),
    **{family: (last(f"{family}_greedy"), "%") for family in FAMILIES},
}


def gap(results: Results, size: int) -> dict[int, float]:
    """Seed -> accuracy after traces minus that after answers, for the seeds that have both."""
    traces, answers = results.get(f"trace_{size}", {}), results.get(f"answer_{size}", {})
    return {
        seed: _accuracy(traces[seed]) - _accuracy(answers[seed])
        for seed in sorted(set(traces) & set(answers))
    }


def growth(results: Results) -> Estimate:
    """How much wider the gap is at the largest finished size than at the smallest, seed by seed."""
    small = gap(results, SIZES[0])
    large = next((found for size in reversed(SIZES[1:]) if (found := gap(results, size))), {})
    return mean([large[seed] - small[seed] for seed in small if seed in large])


def _accuracy(run: Rows) -> float:
    return float(run[-1]["accuracy"])


def goals(results: Results) -> Sequence[Goal]:
    """The published ratio at the largest size.

    Against longer training on answers and for a naive student; the gap at every size, and its
    growth.
    """
    out = []
    pairs = [(f"trace_{size}", f"answer_{size}", f"{size} examples") for size in SIZES]
    done = [pair for pair in pairs if has(results, *pair[:2])]
    # The published ratio is asked of the largest size that is finished, and of two controls.
    asked = [*done[-1:], ("trace_1600", "answer_long", "four times the epochs for the answers")]
    asked.append(("naive_trace", "naive_answer", "a student pretrained without any"))
    for trace, answer, words in asked:
        if has(results, trace, answer):
            asks = (
                f"accuracy after traces over that after answers alone, {words}: {RATIO} times or"
                " more"
            )
            out.append(Goal.at_least(asks, times(results, trace, answer, last("accuracy")), RATIO))
    for trace, answer, words in done:
        asks = f"traces beat answers alone, {words} (difference; interval above 0)"
        out.append(Goal.above(asks, gain(results, trace, answer, last("accuracy")), unit="%"))
    if len(done) > 1:
        out.append(
            Goal.above(
                "the gap is wider at the largest size than at the smallest (interval above 0)",
                growth(results),
                unit="%",
            )
        )
    return out
