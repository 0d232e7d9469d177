"""What `CollapseMonitor` says on the terminal: what it is doing, and how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm

# A measurement that is not over says so after this many seconds, and again after as many.
EVERY_SECONDS = 10.0
# Measurements of a training that asks for no other number: enough to see a decline begin, and a
# share of the time that is bearable where one costs as much as some tens of steps.
DEFAULT_MEASUREMENTS = 10

Rows = Iterable[Mapping[str, Any]]


def say(line: str) -> None:
    """A line of the terminal, above the trainer's progress bar instead of through it."""
    # Standard error, where the bar is: what a script prints on the other one stays its own.
    tqdm.write(f"collapse monitor: {line}", file=sys.stderr)


class Progress:
    """Times the measurements of one training.

    Args:
        tell: takes each line.
        clock: seconds, ever growing.
    """

    def __init__(
        self,
        tell: Callable[[str], None] = say,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tell, self.clock = tell, clock
        self.began = clock()
        self.seconds = 0.0
        self.count = 0

    def watched(self, rows: Rows, step: int, total: int | None) -> Iterator[dict[str, Any]]:
        """The rows as they come; says how many are wanted, and now and then how long it will take.

        Args:
            rows: what `sample` gives, best one by one.
            step: of the training.
            total: how many rows there will be; None where nobody knows.
        """
        began = said = self.clock()
        wanted = "" if total is None else f"{total:,} "
        self.tell(f"step {step}: sampling {wanted}answers{_why(step)}")
        for num, row in enumerate(rows, start=1):
            yield dict(row)
            now = self.clock()
            if now - said < EVERY_SECONDS:
                continue
            said = now
            if total is None:
                self.tell(f"step {step}: {num:,} answers after {lasting(now - began)}")
            else:
                left = (now - began) / num * (total - num)
                self.tell(f"step {step}: {num:,} of {total:,} answers, {lasting(left)} left")

    def measured(self, step: int, seconds: float, outcome: str) -> None:
        """Say what a measurement took and found."""
        self.seconds += seconds
        self.count += 1
        self.tell(f"step {step}: {outcome} ({lasting(seconds)})")

    def forecast(self, num_left: int, share_of_baseline: float | None, baseline: float) -> None:
        """After the baseline: how long the others will take.

        Args:
            num_left: measurements that are still to come.
            share_of_baseline: samples of a later measurement per sample of the baseline; None where
                nobody knows.
            baseline: seconds that the baseline took.
        """
        if share_of_baseline is None:
            self.tell(f"{num_left} more measurements to come; the first one shows what they take")
            return
        each = baseline * share_of_baseline
        self.tell(
            f"{num_left} more measurements to come, about {lasting(each)} each,"
            f" {lasting(num_left * each)} in all"
        )

    def over(self) -> None:
        """At the end: what share of the time the measurements were."""
        whole = max(self.clock() - self.began, 1e-9)
        self.tell(
            f"{self.count} measurements took {lasting(self.seconds)},"
            f" {min(1.0, self.seconds / whole):.0%} of the training's time"
        )


def measurements_left(every: int | None, step: int, max_steps: int) -> int | None:
    """How many measurements a training of `max_steps` has after this step; None: not known."""
    if not every or max_steps <= 0:
        return None
    left = max_steps // every - step // every
    # And once more at the end, where that is no step at which it measures anyway.
    return left + bool(max_steps % every)


def lasting(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min`, `2.5 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _why(step: int) -> str:
    return "" if step else " of the model before training, with which later ones are compared"
