"""Coroutines side by side: the first failure ends the rest.

And none is left that was never awaited.
"""

import asyncio
import warnings

import pytest

from ouroloop.loop.stages.refine import gather_bounded


def test_answers_come_in_order_and_never_more_than_the_limit_run():
    running, most = 0, 0

    async def job(i):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (5 - i % 5))
        running -= 1
        return i

    assert (
        asyncio.run(gather_bounded([job(i) for i in range(20)], limit=3)) == list(range(20))
        and most == 3
    )


def test_a_failure_cancels_what_runs_and_closes_what_never_began():
    ended = []

    async def job(i):
        try:
            await asyncio.sleep(0 if i == 1 else 60)
        finally:
            ended.append(i)
        raise ValueError(f"job {i}")

    jobs = [job(i) for i in range(5)]
    with warnings.catch_warnings(), pytest.raises(ValueError, match="job 1"):
        warnings.simplefilter("error")
        asyncio.run(gather_bounded(jobs, limit=2))
    assert sorted(ended)[:2] == [0, 1] and all(j.cr_frame is None for j in jobs), (
        "every coroutine is finished or closed"
    )
