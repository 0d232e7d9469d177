"""Texts as training examples, in the token ids of the engine that samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ouroloop.evals.tasks import Prompts
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Problem, Prompt
from ouroloop.loop.rows import Example, Origin
from ouroloop.loop.stages.prompts import answered, earlier_answers

_log = logging.getLogger(__name__)
# Whatever is asked, the ids of an answer are the same.
NOTHING = Problem("", "", None)


@dataclass(frozen=True)
class Encoder:
    """The engine as a tokeniser of prompts and the texts that answer them."""

    engine: Engine
    prompts: Prompts
    learn_turns: Literal["last", "all"] = "last"

    async def solutions(
        self, problems: Sequence[Problem], number: int, origin: Origin = "demonstration"
    ) -> list[Example]:
        """The solutions that come with problems, as examples of round `number`."""
        pairs = [answered(self.prompts, p, p.solution or "") for p in problems]
        examples = [
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
        if self.learn_turns == "last":
            return examples
        return await self._with_earlier_turns(examples, problems)

    async def _with_earlier_turns(
        self, examples: Sequence[Example], problems: Sequence[Problem]
    ) -> list[Example]:
        """The examples with the earlier assistant turns of their conversations to learn as well.

        A turn is learnt, its stop token last, where its ids in the whole conversation are those
        that would be sampled after the turns before it. A template that rewrites earlier turns
        (one that leaves thoughts out) has others: such a turn is read only, and counted.
        """
        earlier_P = [earlier_answers(self.prompts, problem) for problem in problems]
        encoded = iter(await self._encode([pair for earlier in earlier_P for pair in earlier]))
        learnt, num_skipped = [], 0
        for example, earlier in zip(examples, earlier_P, strict=True):
            ids, positions = example.prompt_token_ids, list[int]()
            for prompt, answer in (next(encoded) for _ in earlier):
                turn = range(len(prompt), len(prompt) + len(answer))
                if ids[: turn.stop] == (*prompt, *answer):
                    positions.extend(turn)
                else:
                    num_skipped += 1
            learnt.append(replace(example, learnt_prompt_positions=tuple(positions)))
        if num_skipped:
            num_turns = sum(map(len, earlier_P))
            _log.warning(
                "dataset.learn_turns: %d of %d earlier assistant turns are read, not learnt: the"
                " chat template writes them otherwise once more turns follow",
                num_skipped,
                num_turns,
            )
        return learnt

    async def without_systems(
        self, examples: Sequence[Example], problems: Mapping[str, Problem]
    ) -> list[Example]:
        """The examples, asked without the system prompts of `sampling.systems`: prompt erasing.

        Source: Orca 2, Mitra et al. 2311.11045.
        """
        pairs = [answered(self.prompts, problems[e.problem_id], e.text) for e in examples]
        ids = await self._encode(pairs)
        return [
            replace(example, prompt_token_ids=prompt, learnt_prompt_positions=())
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
        pairs = [answered(self.prompts, NOTHING, text) for text in texts]
        ids = await self._encode(pairs)
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
