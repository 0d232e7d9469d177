"""A teacher behind an OpenAI-compatible address: vLLM's own server, or an API.

An address is for instance `http://127.0.0.1:8000/v1#model-name`.

The key comes from the environment variable OPENAI_API_KEY, never from a recipe. What the server
wrote is tokenised by the student's engine, so that it can be trained on. A server cannot be proven
as a checkpoint is: it has no weight-sync check, and nobody notices if its weights change.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.errors import CheckpointError, EngineError, PromptTooLongError, RecipeError
from ouroloop.loop.records import Completion, Prompt, Request, Sampling, Scored
from ouroloop.monitors.fence import well_formed

KEY = "OPENAI_API_KEY"
# After a lost connection, 408, 409, 429 or 5xx. The client waits between them, from half a second
# to eight, or as long as the server says.
RETRIES = 6
CHECK_SECONDS = 10.0
REQUEST_SECONDS = 600.0


def is_address(name: str) -> bool:
    """Whether a recipe means a server, not a folder."""
    return name.startswith(("http://", "https://"))


def split_address(address: str) -> tuple[str, str]:
    """(base URL, model name) of `URL#model`.

    Raises: RecipeError: no model is named, or the address holds what may be a secret: recipes are
        kept and shown.
    """
    url, _, model = address.partition("#")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise RecipeError(
            f"{parts.scheme}://{parts.hostname}: an address holds no user, password or query. Put"
            f" the key into {KEY}."
        )
    if not model or not parts.hostname:
        raise RecipeError(
            f"{address}: no model is named. Write URL#model, e.g."
            " http://127.0.0.1:8000/v1#model-name; GET URL/models lists them."
        )
    return url, model


def check(address: str) -> None:
    """Ask the server which models it has.

    Raises: RecipeError: the address is not of the form URL#model. CheckpointError: no server
        answers, it refuses, it is none of the kind, or it does not have the model.
    """
    import openai

    url, model = split_address(address)
    remedy = (
        f"Start it (`vllm serve FOLDER --served-model-name {model} --generation-config vllm`), or"
        " correct the address."
    )
    try:
        with openai.OpenAI(
            base_url=url, api_key=_key(), max_retries=1, timeout=CHECK_SECONDS
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
        raise CheckpointError(
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
        address: URL#model.
        tokenizer: the student's engine, running; it turns texts into token ids.
        concurrency: requests in flight at most.
        chat_template_kwargs: sent with chat turns where there are any; vLLM's name.
    """

    def __init__(
        self,
        address: str,
        tokenizer: Engine,
        concurrency: int,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        import openai

        self.url, self.model = split_address(address)
        self.address, self.tokenizer = address, tokenizer
        self._template = dict(chat_template_kwargs or {})
        self._slots = asyncio.Semaphore(concurrency)
        self._client = openai.AsyncOpenAI(
            base_url=self.url, api_key=_key(), max_retries=RETRIES, timeout=REQUEST_SECONDS
        )

    async def load(self, checkpoint: Path, check: Path | None = None) -> None:
        """A server's weights are its own.

        Raises:
            EngineError: always.
        """
        raise EngineError(f"{self.address}: a server cannot be asked to serve {checkpoint}")

    async def complete(self, request: Request) -> Completion:
        """One completion, in the student's token ids.

        An answer that the server cut, filtered or left empty counts as cut by length.

        Raises:
            PromptTooLongError: it does not fit into the server's context.
            EngineError: the server refused, or failed more often than it is worth asking.
        """
        import openai

        try:
            async with self._slots:
                text, reason = await self._ask(request)
            text = well_formed(text)  # JSON may spell a lone surrogate, which no tokenizer takes
        except openai.BadRequestError as error:
            # vLLM says it in the message, OpenAI in the code.
            if "context length" in str(error) or error.code == "context_length_exceeded":
                raise PromptTooLongError(
                    f"request {request.id}: {self.address}: {error.message}"
                ) from None
            raise EngineError(self._failed(request, error)) from None
        except openai.OpenAIError as error:
            raise EngineError(self._failed(request, error)) from None
        ((prompt_ids, ids),) = await self.tokenizer.encode([(request.prompt, text)])
        # "length" and "content_filter" are cut; so is an empty answer, which teaches nothing.
        stopped = reason == "stop" and bool(text)
        return Completion(
            request_id=request.id,
            prompt_token_ids=tuple(prompt_ids),
            # encode() ends every text with a stop token; a cut text has none.
            token_ids=tuple(ids if stopped else ids[:-1]),
            logprobs=(),
            text=text,
            finish_reason="stop" if stopped else "length",
            weight_version=self.address,
        )

    async def _ask(self, request: Request) -> tuple[str, str]:
        """(text, finish reason)."""
        settings = _settings(request.sampling)
        if isinstance(request.prompt, str):
            plain = await self._client.completions.create(
                model=self.model, prompt=request.prompt, seed=request.seed, **settings
            )
            return plain.choices[0].text, plain.choices[0].finish_reason
        if self._template:
            extra = {**settings.get("extra_body", {}), "chat_template_kwargs": self._template}
            settings = {**settings, "extra_body": extra}
        turns: Any = [dict(turn) for turn in request.prompt]
        chat = await self._client.chat.completions.create(
            model=self.model, messages=turns, seed=request.seed, **settings
        )
        return chat.choices[0].message.content or "", chat.choices[0].finish_reason

    def _failed(self, request: Request, error: Exception) -> str:
        plain = isinstance(request.prompt, str)
        asked = "completions" if plain else "chat/completions"
        hint = (
            " Plain prompts need a server with /completions; a student with a chat template is"
            " asked in chat turns."
            if plain
            else ""
        )
        return (
            f"request {request.id}: {self.url}/{asked} failed: {error}. What was sampled is kept:"
            f" `ouroloop resume` goes on.{hint}"
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
        raise EngineError(f"{self.address}: a server does not score given texts")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def _settings(sampling: Sampling) -> dict[str, Any]:
    """What both kinds of request take.

    `max_tokens` is the older name of the limit, and the one that every server knows.
    """
    ours = {
        "top_k": (sampling.top_k, 0),
        "min_p": (sampling.min_p, 0.0),
        "repetition_penalty": (sampling.repetition_penalty, 1.0),
    }
    # OpenAI's own API refuses names that it does not know, so they are sent only when set.
    extra = {name: value for name, (value, off) in ours.items() if value != off}
    settings: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
        "n": 1,
    }
    return {**settings, "extra_body": extra} if extra else settings


def _key() -> str:
    """The key, or a word where none is set.

    A server of one's own wants none, but the client does.
    """
    return os.environ.get(KEY) or "none"
