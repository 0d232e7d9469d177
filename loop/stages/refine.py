"""Draft -> critique -> revise: one coroutine per problem. The engine batches across problems.

Every request carries a seed hashed from (run seed, round, problem, stage, sample): no two share a
random stream, and a resumed round repeats itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ouroloop.evals.tasks import Prompts
from ouroloop.evals.verdicts import read_verdict, verdict_line
from ouroloop.loop.config import Recipe
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.errors import NoAnswerError, PromptTooLongError
from ouroloop.loop.reasoning import Reasoning
from ouroloop.loop.records import (
    Completion,
    Critique,
    Problem,
    Prompt,
    Request,
    Sample,
    Sampling,
)
from ouroloop.loop.stages import constitution
from ouroloop.loop.stages.dropped import Drops
from ouroloop.loop.stages.ending import own_words
from ouroloop.loop.stages.prompts import ask, ask_critique, ask_revision
from ouroloop.loop.stages.triage import Triage

if TYPE_CHECKING:  # a setting is made of the stages
    from ouroloop.loop.setup import Setting

# progress(stage, done, total)
Progress = Callable[[str, int, int], None]
# Source of what the model in training drafts itself.
STUDENT = "student"


@dataclass(frozen=True)
class Refiner:
    """How one problem becomes samples: the recipe's sampling and refining, in one round."""

    engine: Engine
    recipe: Recipe
    prompts: Prompts
    round: int
    temperatures: tuple[float, ...]
    principles: tuple[constitution.Principle, ...] = ()
    shots: constitution.Shots = field(default_factory=constitution.Shots)
    source: str = STUDENT
    reasoning: Reasoning | None = None
    triage: Triage | None = None
    is_baseline: bool = False

    @classmethod
    def of(
        cls,
        setting: Setting,
        engine: Engine,
        number: int,
        temperatures: tuple[float, ...],
        source: str = STUDENT,
        is_baseline: bool = False,
    ) -> Refiner:
        """As the run's recipe says, in round `number`."""
        return cls(
            engine=engine,
            recipe=setting.recipe,
            prompts=setting.prompts,
            round=number,
            temperatures=temperatures,
            principles=setting.principles,
            shots=setting.shots,
            source=source,
            reasoning=setting.reasoning,
            triage=Triage.of(setting.recipe, setting.task),
            is_baseline=is_baseline,
        )

    async def problem(self, problem: Problem) -> list[Sample]:
        """All samples of one problem, concurrently."""
        indices = range(self.recipe.sampling.samples_per_problem)
        return list(await asyncio.gather(*(self.sample(problem, i) for i in indices)))

    async def sample(self, problem: Problem, index: int) -> Sample:
        """One way through draft, critique and revision, or why there was none."""
        temperature = self.temperatures[index % len(self.temperatures)]
        try:
            return await self._sample(problem, index, temperature)
        except NoAnswerError as error:
            name = self.sample_id(problem, index)
            # Data, as a sample without room is; but no text of any model, so nothing may judge it.
            nothing = Completion(name, (), (), (), "", "length", "")
            return Sample(name, problem.id, index, temperature, nothing, dropped=str(error))

    async def _sample(self, problem: Problem, index: int, temperature: float) -> Sample:
        systems, system = self.recipe.sampling.systems, None
        if systems:
            # From another one on in each problem: temperatures are cycled alike, and would always
            # go with the same ones.
            shift = self._seed(problem, "system", 0)
            system = systems[(index + shift) % len(systems)]
        prompt = ask(self.prompts, problem, system)
        max_tokens = self.recipe.sampling.max_tokens
        draft = await self._ask(problem, index, "draft", [prompt], temperature, max_tokens)
        critiques: list[Critique] = []
        revisions: list[Completion] = []
        chosen = self.recipe.refine.families
        if not chosen or problem.family in chosen:
            critiques, revisions = await self._refine(problem, index, draft)
        return Sample(
            id=self.sample_id(problem, index),
            problem_id=problem.id,
            index=index,
            temperature=temperature,
            draft=draft,
            critiques=tuple(critiques),
            revisions=tuple(revisions),
        )

    def sample_id(self, problem: Problem, index: int) -> str:
        """The id of a sample, unique in the run."""
        return f"{self.round:03d}/{self.source}/{problem.id}/{index}"

    async def _refine(
        self, problem: Problem, index: int, text: Completion
    ) -> tuple[list[Critique], list[Completion]]:
        """(critiques, revisions) of a draft: in turns, until one is approved, spared or cut."""
        critiques: list[Critique] = []
        revisions: list[Completion] = []
        while text.finish_reason == "stop" and self._is_wanted(len(revisions)):
            turn, critique = len(revisions), None
            if self.triage and not self.triage.is_asked(problem, text):
                break
            # One principle for the critique and the revision that answers it.
            seed = self._seed(problem, f"principle{turn}", index)
            principle = constitution.draw(self.principles, seed)
            if self.recipe.refine.critique:
                critique = await self.criticise(problem, index, text, principle, f"critique{turn}")
                critiques.append(critique)
                if not self._calls_for_revision(critique, turn):
                    break
            text = await self._revise(problem, index, text, critique, principle, turn)
            # No room for one, or no word of its own: the text before it stands. But no draft does
            # where every one is to be revised: the empty revision says that none may be learnt.
            may_stand = revisions or self.recipe.refine.revise_when != "always"
            if not text.token_ids and may_stand:
                break
            revisions.append(text)
        return critiques, revisions

    def _is_wanted(self, turn: int) -> bool:
        """Whether anybody would use a critique, or a revision, of the text after `turn` turns."""
        refine = self.recipe.refine
        if turn < refine.revisions:
            return True
        # The last text is criticised only where a filter asks for approval; a draft always is,
        # because the critic's calibration is measured.
        return refine.critique and (turn == 0 or self.recipe.filters.critic)

    def _calls_for_revision(self, critique: Critique, turn: int) -> bool:
        refine = self.recipe.refine
        if turn == refine.revisions:
            return False
        # Always: also after a critique that was cut, or the draft would be learnt as it is.
        return refine.revise_when == "always" or critique.approved is False

    async def _revise(
        self,
        problem: Problem,
        index: int,
        text: Completion,
        critique: Critique | None,
        principle: constitution.Principle | None,
        turn: int,
    ) -> Completion:
        """The text rewritten: in the light of a critique, or directly where none says anything."""
        said = (self._seen(critique.completion.text).strip() or None) if critique else None
        make = partial(ask_revision, self.prompts, problem, self._seen(text.text), said, principle)
        temperature = self.recipe.refine.revise_temperature
        max_tokens = self.recipe.sampling.max_tokens
        tried = self.shots.tried(make)
        return await self._ask(problem, index, f"revise{turn}", tried, temperature, max_tokens)

    async def criticise(
        self,
        problem: Problem,
        index: int,
        text: Completion,
        principle: constitution.Principle | None = None,
        stage: str = "critique0",
    ) -> Critique:
        """One critique of a text, its verdict, and P(approve)."""
        make = partial(ask_critique, self.prompts, problem, self._seen(text.text), principle)
        refine = self.recipe.refine
        answer = await self._ask(
            problem,
            index,
            stage,
            self.shots.tried(make),
            refine.critique_temperature,
            refine.max_critique_tokens,
        )
        approved, probability = None, None
        if answer.finish_reason == "stop":  # what a cut critique says so far is no verdict
            approved = read_verdict(self.prompts, self._after_thought(answer.text))
        if approved is not None and answer.logprobs:
            confidence = await self._confidence(answer)
            probability = confidence if approved else 1.0 - confidence
        return Critique(answer, approved, probability, principle.name if principle else None)

    def _seen(self, text: str) -> str:
        """What a critic or a reviser sees of a text."""
        return self.reasoning.seen(text) if self.reasoning else text

    def _after_thought(self, text: str) -> str:
        """What a critique says at last; nothing where its thought was not closed."""
        return (self.reasoning.answer(text) or "") if self.reasoning else text

    async def _confidence(self, answer: Completion) -> float:
        """The probability that the critic gave to its own verdict line.

        Of the line alone: the steps before it can be written in many ways, whatever the verdict.
        """
        line = verdict_line(answer.text)
        count = len(answer.logprobs)
        if line != answer.text.strip():
            ((_, line_ids),) = await self.engine.encode([("\n", line)])
            count = len(line_ids)
        return math.exp(min(0.0, sum(answer.logprobs[-count:])))

    async def _ask(
        self,
        problem: Problem,
        index: int,
        stage: str,
        prompts: Iterable[Prompt],
        temperature: float,
        max_tokens: int,
    ) -> Completion:
        """A completion of the first of these prompts that fits into the context."""
        request_id = f"{self.round:03d}/{self.source}/{problem.id}/{stage}/{index}"
        sampling = self._sampling(stage, temperature, max_tokens)
        seed = self._seed(problem, f"{self.source}/{stage}", index)
        for prompt in prompts:
            try:
                found = await self.engine.complete(Request(request_id, prompt, sampling, seed))
            except PromptTooLongError:
                continue
            return await own_words(self.engine, prompt, found)
        # A sample without room is data: cut before its first word, so no filter lets it pass.
        return Completion(request_id, (), (), (), "", "length", "")

    def _sampling(self, stage: str, temperature: float, max_tokens: int) -> Sampling:
        """The recipe's cut-offs where the loop samples; none where something is measured."""
        measured = stage.startswith("probe") or (stage.startswith("critique") and temperature == 0)
        if measured:
            return Sampling(temperature=temperature, max_tokens=max_tokens)
        fixed = self.recipe.sampling
        return Sampling(
            temperature=temperature,
            top_p=fixed.top_p,
            top_k=fixed.top_k,
            min_p=fixed.min_p,
            repetition_penalty=fixed.repetition_penalty,
            max_tokens=max_tokens,
        )

    def _seed(self, problem: Problem, stage: str, index: int) -> int:
        return derive_seed(self.recipe.seed, self.round, problem.id, stage, index)

    async def probe(self, problem: Problem, index: int, temperature: float) -> Completion:
        """One probe sample under fixed sampling: no cut-offs, the probe's temperature.

        Drawn afresh in each round: one draw for all rounds would add up to false evidence.
        """
        prompt = ask(self.prompts, problem)
        max_tokens = self.recipe.sampling.max_tokens
        return await self._ask(problem, index, "probe", [prompt], temperature, max_tokens)


async def collect(refiner: Refiner, problems: Sequence[Problem], report: Progress) -> list[Sample]:
    """Every problem's samples, in the order of the problems; dropped ones among them.

    Raises:
        EngineError: servers left more unanswered than the recipe allows.
    """
    per_problem = refiner.recipe.sampling.samples_per_problem
    done, total = 0, len(problems) * per_problem
    label = "sampling" if refiner.source == STUDENT else f"sampling {refiner.source}"
    report(label, done, total)
    drops = Drops(label, refiner.recipe.servers.max_dropped, total)

    async def one(problem: Problem) -> list[Sample]:
        nonlocal done
        samples = await refiner.problem(problem)
        for sample in samples:
            if sample.dropped:
                drops.add(sample.dropped)
        done += per_problem
        report(label, done, total)
        return samples

    limit = max(1, refiner.recipe.engine.concurrency // per_problem)
    samples_P: list[list[Sample]] = await gather_bounded([one(p) for p in problems], limit)
    return [sample for samples in samples_P for sample in samples]


async def gather_bounded(jobs: Sequence[Coroutine[Any, Any, Any]], limit: int) -> list[Any]:
    """Run coroutines with at most `limit` at a time.

    The first failure cancels the rest and is raised.
    """
    slots = asyncio.Semaphore(limit)

    async def guarded(job: Coroutine[Any, Any, Any]) -> Any:
        async with slots:
            return await job

    tasks = [asyncio.ensure_future(guarded(job)) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            job.close()  # Python warns of a coroutine that is collected before it began
        raise


def derive_seed(run_seed: int, number: int, problem_id: str, stage: str, index: int) -> int:
    """A 31-bit seed from the hash of where a request stands.

    Consecutive seeds would share random streams across problems.
    """
    key = f"{run_seed}|{number}|{problem_id}|{stage}|{index}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") >> 1
