"""Draft -> critique -> revise: one coroutine per problem. The engine batches across problems.

Every request carries a seed hashed from (run seed, round, problem, stage, sample): no two share a
random stream, and a resumed round repeats itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ouroloop.evals.tasks import Prompts
from ouroloop.loop.config import Recipe
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.errors import PromptTooLongError
from ouroloop.loop.records import (
    Completion,
    Critique,
    Problem,
    Request,
    Sample,
    Sampling,
)
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.prompts import read_verdict, render, verdict_line
from ouroloop.loop.tables import Journal

if TYPE_CHECKING:  # a setting is made of the stages
    from ouroloop.loop.setup import Setting

Progress = Callable[[str, int, int], None]
"""progress(stage, done, total)"""
STUDENT = "student"
"""Source of what the model in training drafts itself."""


@dataclass(frozen=True)
class Refiner:
    """How one problem becomes samples: the recipe's sampling and refining, in one round."""

    engine: Engine
    recipe: Recipe
    prompts: Prompts
    round: int
    temperatures: tuple[float, ...]
    principles: tuple[constitution.Principle, ...] = ()
    source: str = STUDENT

    @classmethod
    def of(
        cls,
        setting: Setting,
        engine: Engine,
        number: int,
        temperatures: tuple[float, ...],
        source: str = STUDENT,
    ) -> Refiner:
        """As the run's recipe says, in round `number`."""
        return cls(
            engine=engine,
            recipe=setting.recipe,
            prompts=setting.prompts,
            round=number,
            temperatures=temperatures,
            principles=setting.principles,
            source=source,
        )

    async def problem(self, problem: Problem) -> list[Sample]:
        """All samples of one problem, concurrently."""
        return list(
            await asyncio.gather(
                *(self.sample(problem, i) for i in range(self.recipe.sampling.samples_per_problem))
            )
        )

    async def sample(self, problem: Problem, index: int) -> Sample:
        """One way through draft, critique and revision."""
        temperature = self.temperatures[index % len(self.temperatures)]
        systems = self.recipe.sampling.systems
        system = systems[index % len(systems)] if systems else None
        prompt = render(self.prompts, self.prompts.draft, system, question=problem.question)
        draft = await self._ask(
            problem, index, "draft", prompt, temperature, self.recipe.sampling.max_tokens
        )
        chosen = self.recipe.refine.families
        critiques, revisions = (
            await self._refine(problem, index, draft)
            if not chosen or problem.family in chosen
            else ([], [])
        )
        return Sample(
            self.sample_id(problem, index),
            problem.id,
            index,
            temperature,
            draft,
            tuple(critiques),
            tuple(revisions),
        )

    def sample_id(self, problem: Problem, index: int) -> str:
        """The id of a sample, unique in the run."""
        return f"{self.round:03d}/{self.source}/{problem.id}/{index}"

    async def _refine(
        self, problem: Problem, index: int, text: Completion
    ) -> tuple[list[Critique], list[Completion]]:
        refine, critiques, revisions = self.recipe.refine, list[Critique](), list[Completion]()
        template, said = (self.prompts.revise if refine.critique else self.prompts.direct), ""
        while text.finish_reason == "stop":
            turn = len(revisions)
            if turn == refine.revisions and not (
                refine.critique and (turn == 0 or self.recipe.filters.critic)
            ):
                break  # nobody would use a critique of the last revision
            principle = constitution.draw(
                self.principles,
                derive_seed(self.recipe.seed, self.round, problem.id, f"principle{turn}", index),
            )
            if refine.critique:
                critique = await self.criticise(problem, index, text, principle, f"critique{turn}")
                critiques.append(critique)
                wanted = refine.revise_when == "always" or critique.approved is False
                if (
                    turn == refine.revisions
                    or not wanted
                    or critique.completion.finish_reason != "stop"
                ):
                    break
                said = critique.completion.text
            request = principle.revision_request if principle else ""
            prompt = render(
                self.prompts,
                template,
                question=problem.question,
                draft=text.text,
                critique=said,
                principle=request,
            )
            text = await self._ask(
                problem,
                index,
                f"revise{turn}",
                prompt,
                refine.revise_temperature,
                self.recipe.sampling.max_tokens,
            )
            if not text.token_ids:
                break
            revisions.append(text)
        return critiques, revisions

    async def criticise(
        self,
        problem: Problem,
        index: int,
        text: Completion,
        principle: constitution.Principle | None = None,
        stage: str = "critique0",
    ) -> Critique:
        """One critique of a text, its verdict, and P(approve).

        The probability that the critic gave to its own verdict line.
        """
        prompt = render(
            self.prompts,
            self.prompts.critique,
            question=problem.question,
            draft=text.text,
            principle=principle.critique_request if principle else "",
        )
        refine = self.recipe.refine
        answer = await self._ask(
            problem, index, stage, prompt, refine.critique_temperature, refine.max_critique_tokens
        )
        approved = (
            read_verdict(self.prompts, answer.text) if answer.finish_reason == "stop" else None
        )
        probability = None
        if approved is not None and answer.logprobs:
            line = verdict_line(answer.text)
            alone = line == answer.text.strip()
            count = (
                len(answer.logprobs)
                if alone
                else len((await self.engine.encode([("\n", line)]))[0][1])
            )
            confidence = math.exp(min(0.0, sum(answer.logprobs[-count:])))
            probability = confidence if approved else 1.0 - confidence
        return Critique(answer, approved, probability, principle.name if principle else None)

    async def _ask(
        self,
        problem: Problem,
        index: int,
        stage: str,
        prompt: Any,
        temperature: float,
        max_tokens: int,
    ) -> Completion:
        fixed = self.recipe.sampling
        sampling = Sampling(
            temperature, fixed.top_p, fixed.top_k, fixed.min_p, fixed.repetition_penalty, max_tokens
        )
        if stage.startswith("probe") or (stage.startswith("critique") and temperature == 0):
            sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        seed = derive_seed(
            self.recipe.seed, self.round, problem.id, f"{self.source}/{stage}", index
        )
        request = Request(
            f"{self.round:03d}/{self.source}/{problem.id}/{stage}/{index}", prompt, sampling, seed
        )
        try:
            return await self.engine.complete(request)
        except (
            PromptTooLongError
        ):  # a sample without room is data: cut before its first word, so no gate lets it pass
            return Completion(request.id, (), (), (), "", "length", "")

    async def probe(self, problem: Problem, index: int, temperature: float) -> Completion:
        """One panel sample under fixed sampling: no cut-offs, the probe's temperature.

        Drawn afresh each round: shared luck would add up.
        """
        prompt = render(self.prompts, self.prompts.draft, question=problem.question)
        return await self._ask(
            problem, index, "probe", prompt, temperature, self.recipe.sampling.max_tokens
        )


async def collect(
    refiner: Refiner, problems: Sequence[Problem], journal: Journal[Sample], report: Progress
) -> list[Sample]:
    """Refine every problem that the journal does not hold yet.

    Each finished problem is journalled whole, in one write.
    """
    per_problem = refiner.recipe.sampling.samples_per_problem
    found = {sample.id: sample for sample in journal.records}
    ids_P = [[refiner.sample_id(problem, i) for i in range(per_problem)] for problem in problems]
    todo = [
        problem
        for problem, ids in zip(problems, ids_P, strict=True)
        if not all(i in found for i in ids)
    ]
    done, total = (len(problems) - len(todo)) * per_problem, len(problems) * per_problem
    label = "sampling" if refiner.source == STUDENT else f"sampling {refiner.source}"
    report(label, done, total)

    async def one(problem: Problem) -> None:
        nonlocal done
        new = [s for s in await refiner.problem(problem) if s.id not in found]
        journal.append(new)
        done += per_problem
        report(label, done, total)

    limit = max(1, refiner.recipe.engine.concurrency // per_problem)
    await gather_bounded([one(problem) for problem in todo], limit)
    found = {sample.id: sample for sample in journal.records}
    return [found[i] for ids in ids_P for i in ids]


async def gather_bounded(jobs: Sequence[Coroutine[Any, Any, Any]], limit: int) -> list[Any]:
    """Run coroutines with at most `limit` at a time.

    The first failure cancels the rest and is raised.
    """
    gate = asyncio.Semaphore(limit)

    async def guarded(job: Coroutine[Any, Any, Any]) -> Any:
        async with gate:
            return await job

    tasks = [asyncio.ensure_future(guarded(job)) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            job.close()  # one that never began would be complained of when it is collected
        raise


def derive_seed(run_seed: int, number: int, problem_id: str, stage: str, index: int) -> int:
    """A 31-bit seed from the hash of where a request stands.

    Consecutive seeds would share random streams across problems.
    """
    key = f"{run_seed}|{number}|{problem_id}|{stage}|{index}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") >> 1
