"""Texts as training examples, in the token ids of the engine that samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ouroloop.evals.tasks import Prompts
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Problem, Prompt
from ouroloop.loop.rows import Example, Origin
from ouroloop.loop.stages.prompts import ask, render


@dataclass(frozen=True)
class Encoder:
    """The engine as a tokeniser of prompts and the texts that answer them."""

    engine: Engine
    prompts: Prompts

    async def solutions(
        self, problems: Sequence[Problem], number: int, origin: Origin = "demonstration"
    ) -> list[Example]:
        """The solutions that come with problems, as examples of round `number`."""
        pairs = [(ask(self.prompts, p), p.solution or "") for p in problems]
        return [
            Example(
                problem_id=problem.id,
                prompt_token_ids=prompt,
                completion_token_ids=completion,
                text=text,
                origin=origin,
                round=number,
                strategy=problem.metadata.get("strategy"),
            )
            for problem, (_, text), (prompt, completion) in zip(
                problems, pairs, await self._encode(pairs), strict=True
            )
        ]

    async def without_systems(
        self, examples: Sequence[Example], problems: Mapping[str, Problem]
    ) -> list[Example]:
        """The examples, asked without the system prompts of `sampling.systems`: prompt erasing.

        Source: Orca 2, Mitra et al. 2311.11045.
        """
        pairs = [(ask(self.prompts, problems[e.problem_id]), e.text) for e in examples]
        ids = await self._encode(pairs)
        return [
            replace(example, prompt_token_ids=prompt)
            for example, (prompt, _) in zip(examples, ids, strict=True)
        ]

    async def answers_only(
        self, examples: Sequence[Example], answer: Callable[[Example], str | None]
    ) -> list[Example]:
        """The examples with the final answer alone to learn, the trace left out.

        One whose answer cannot be read is dropped.
        """
        short = []
        for example in examples:
            found = answer(example)
            if found is not None:
                text = self.prompts.answer.replace("{answer}", found)
                short.append(replace(example, text=text))
        return await self.with_texts(short, [example.text for example in short])

    async def with_texts(self, examples: Sequence[Example], texts: Sequence[str]) -> list[Example]:
        """The examples with other texts to learn, in token ids made anew by the engine.

        A text that is the end of a sampled one has the sampled ids where these are what its
        tokenizer makes of it; else the new ones, since a cut may fall within a token.
        """
        # Whatever is asked, the completion's ids are those of a chat turn, its end included.
        asked = render(self.prompts, self.prompts.draft, question="")
        ids = await self._encode([(asked, text) for text in texts])
        return [
            replace(example, text=text, completion_token_ids=completion)
            for example, text, (_, completion) in zip(examples, texts, ids, strict=True)
        ]

    async def _encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(prompt_T, completion_T) token ids of each pair."""
        # The engine is not asked for nothing: it may not be started where nothing was sampled.
        found = await self.engine.encode(pairs) if pairs else []
        return [(tuple(prompt), tuple(completion)) for prompt, completion in found]
