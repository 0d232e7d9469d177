"""A teacher behind an OpenAI-compatible address: vLLM's own server, or an API.

An address is for instance `http://127.0.0.1:8000/v1#model-name`; several of one model, separated by
blanks, share the work. What may go wrong with an answer costs that answer, not the run: it is asked
for again, in the end its sample is dropped and counted.

The key comes from the environment variable OPENAI_API_KEY, never from a recipe. What the server
wrote is tokenised by the student's engine, so that it can be trained on. A server cannot be proven
as a checkpoint is: it has no weight-sync check, and nobody notices if its weights change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.answers import Answer
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.pacing import Limits, Queue, backoff
from ouroloop.loop.engines.remote_server import KEY, LostAnswerError, Server, key, split_address
from ouroloop.loop.errors import CheckpointError, EngineError, NoAnswerError
from ouroloop.loop.records import Completion, Prompt, Request, Scored

CHECK_SECONDS = 10.0
# No tokenizer of text has longer tokens, but for runs of blanks.
CHARACTERS_PER_TOKEN = 64


def is_address(name: str) -> bool:
    """Whether a recipe means a server, not a folder."""
    return name.startswith(("http://", "https://"))


def check(model: str, start: str = "vllm serve") -> None:
    """Ask each server which models it has; of several, one that is down may join later.

    Args:
        model: URL#model of each, separated by blanks.
        start: the command that starts one, for messages.

    Raises:
        RecipeError: an address is not of the form URL#model.
        CheckpointError: no server answers, one refuses, is none of the kind, or does not have the
            model.
    """
    addresses = model.split()
    # All forms first: a misspelt address is no server that is down.
    for address in addresses:
        split_address(address)
    silent = []
    for address in addresses:
        try:
            _check_one(address, start)
        except _SilentError as error:
            silent.append(error)
    if len(silent) == len(addresses):
        raise silent[0]


class _SilentError(CheckpointError):
    """No server answers at an address."""


def _check_one(address: str, start: str) -> None:
    import openai

    url, model = split_address(address)
    remedy = (
        f"Start it (`{start} FOLDER --served-model-name {model} --generation-config vllm`), or"
        " correct the address."
    )
    try:
        with openai.OpenAI(
            base_url=url, api_key=key(), max_retries=1, timeout=CHECK_SECONDS
        ) as client:
            there = [found.id for found in client.models.list().data or ()]
    except openai.APIStatusError as error:
        if error.status_code in (401, 403):
            raise CheckpointError(
                f"{url}: the server refused ({error.status_code}). Put a key that it takes into"
                f" {KEY}."
            ) from None
        raise CheckpointError(
            f"{url}/models: expected a list of models, got status {error.status_code}. {remedy}"
        ) from None
    except openai.APIConnectionError as error:
        raise _SilentError(
            f"{url}: no server answers ({error.__cause__ or error}). {remedy}"
        ) from None
    except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{url}/models: expected a list of models, got something else ({type(error).__name__})."
            f" {remedy}"
        ) from None
    if model not in there:
        raise CheckpointError(
            f"{url}: no model is called {model!r}. There are {', '.join(there[:8]) or 'none'}."
        )


class RemoteEngine:
    """An `Engine` that only completes: chat turns by /chat/completions, plain text by /completions.

    Log-probabilities are left out (not every server gives them), and a seed is a wish that not
    every server grants. top_k, min_p and repetition_penalty are vLLM's names and sent only where
    the recipe sets them; what a recipe leaves out, the server's own defaults decide.

    Args:
        model: URL#model, or several of them.
        tokenizer: the student's engine, running; it turns texts into token ids.
        limits: how the servers are asked.
        chat_template_kwargs: sent with chat turns where there are any; vLLM's name.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Engine,
        limits: Limits,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        self.model, self.tokenizer, self.limits = model, tokenizer, limits
        self._template = dict(chat_template_kwargs or {})
        self._servers = [Server(address, limits) for address in model.split()]
        self._queue = Queue([server.turns for server in self._servers])

    async def load(self, checkpoint: Path, check: Path | None = None) -> str:
        """A server's weights are its own.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"{self.model}: a server cannot be asked to serve {checkpoint}")

    async def complete(self, request: Request) -> Completion:
        """One completion, in the student's token ids.

        An answer that the server cut, filtered or left empty counts as cut by length; so does one
        that has more tokens than asked for, of which the first are kept.

        Raises:
            PromptTooLongError: it does not fit into the server's context.
            NoAnswerError: no server gave a usable answer.
            EngineError: the server refuses all requests.
        """
        answer, address = await self._answer(request)
        most = request.sampling.max_tokens
        # Cut before it is encoded: a text of megabytes would hold the tokenizer up.
        text = answer.text[: most * CHARACTERS_PER_TOKEN]
        prompt_ids, ids = await self._tokens(request.prompt, text)
        # encode() ends every text with a stop token; a cut text has none.
        is_whole = answer.is_whole and len(text) == len(answer.text) and len(ids) - 1 <= most
        # The tokenizer has no way back from ids to text, so the text is cut until it fits.
        while len(ids) - 1 > most:
            text = text[: min(len(text) - 1, len(text) * most // (len(ids) - 1))]
            prompt_ids, ids = await self._tokens(request.prompt, text)
        return Completion(
            request_id=request.id,
            prompt_token_ids=tuple(prompt_ids),
            token_ids=tuple(ids if is_whole else ids[:-1]),
            logprobs=(),
            text=text,
            finish_reason="stop" if is_whole else "length",
            # Where a checkpoint has its fingerprint: a server's weights cannot be proven.
            weight_version=address,
        )

    async def _tokens(self, prompt: Prompt, text: str) -> tuple[list[int], list[int]]:
        ((prompt_ids, ids),) = await self.tokenizer.encode([(prompt, text)])
        return prompt_ids, ids

    async def _answer(self, request: Request) -> tuple[Answer, str]:
        """A usable answer, and the address that it came from; another server may be asked next."""
        last = ""
        for attempt in range(self.limits.attempts):
            if attempt:
                # Outside the turn: no place at a server is held by somebody who does not ask.
                await asyncio.sleep(backoff(attempt))
            async with self._queue.turn() as index:
                server = self._servers[index]
                try:
                    answer = await server.ask(request, self._template)
                except LostAnswerError as error:
                    server.turns.failed()
                    last = f"{server.url}: {error}"
                else:
                    server.turns.succeeded()
                    return answer, server.address
        raise NoAnswerError(
            f"request {request.id}: no usable answer in {self.limits.attempts} attempts; the last:"
            f" {last}"
        )

    async def encode(
        self, pairs: Sequence[tuple[Prompt, str]]
    ) -> list[tuple[list[int], list[int]]]:
        """As the student's engine does."""
        return await self.tokenizer.encode(pairs)

    async def score(self, pairs: Sequence[tuple[Prompt, str]]) -> list[Scored]:
        """A server scores no given text.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"{self.model}: a server does not score given texts")

    async def close(self) -> None:
        """Close the connections."""
        for server in self._servers:
            await server.client.close()
