"""Drafts, critiques and revisions of a problem wait for no other problem's."""

import asyncio
import random
from collections import deque

from scripted_world import Model, small

from ouroloop.loop.setup import prepare
from ouroloop.loop.stages import refine

NUM_SLOTS = 16
STAGES = ("draft", "critique", "revise")


class SteppedEngine:
    """An engine that decodes a token of at most `NUM_SLOTS` requests a step, and counts steps."""

    def __init__(self, inner):
        self.inner, self.num_steps, self.requests, self.answers = inner, 0, [], {}
        self._waiting, self._driver = deque(), None

    async def complete(self, request):
        answered = asyncio.get_running_loop().create_future()
        self.requests.append(request)
        self._waiting.append([num_tokens(request), answered])
        if self._driver is None or self._driver.done():
            self._driver = asyncio.create_task(self._drive())
        await answered
        self.answers[request.id] = await self.inner.complete(request)
        return self.answers[request.id]

    async def encode(self, pairs):
        return await self.inner.encode(pairs)

    async def _drive(self):
        running = []
        while running or self._waiting:
            # Whoever got an answer asks its next question before the step.
            for _ in range(50):
                await asyncio.sleep(0)
            while self._waiting and len(running) < NUM_SLOTS:
                running.append(self._waiting.popleft())
            self.num_steps += 1
            for job in running:
                job[0] -= 1
                if not job[0]:
                    job[1].set_result(None)
            running = [job for job in running if job[0]]


def num_tokens(request):
    """Skewed, as reasoning is: most answers are short, one in eight is sixteen times as long."""
    return 96 if random.Random(request.seed).random() < 1 / 8 else 6


def steps_of(setting, number):
    """(steps of the loop's own order, steps with a barrier after each stage) of one round."""
    model = Model()

    async def story():
        await model.engine.load(setting.base)
        chains, stages = SteppedEngine(model.engine), SteppedEngine(model.engine)
        refiner = refine.Refiner.of(setting, chains, number, (1.0,))
        await refine.collect(refiner, setting.problems[:24], lambda *what: None)
        for stage in STAGES:
            asked = [each for each in chains.requests if f"/{stage}" in each.id]
            assert asked
            await asyncio.gather(*(stages.complete(each) for each in asked))
        assert chains.answers == stages.answers
        return chains.num_steps, stages.num_steps

    return asyncio.run(story())


def test_chains_take_three_quarters_of_the_steps_of_stage_after_stage_with_the_same_tokens():
    setting = prepare(small(refine={"revise_when": "always"}))
    # Every round has seeds of its own.
    found = [steps_of(setting, number) for number in range(1, 4)]
    pipelined, by_stage = (sum(steps) for steps in zip(*found, strict=True))
    assert by_stage >= 1.3 * pipelined, found
