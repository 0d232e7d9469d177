"""One server that is asked for answers, and what its refusals mean."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ouroloop.loop.engines.answers import MAX_BYTES, Answer, MalformedAnswerError, read_answer
from ouroloop.loop.engines.pacing import Limits, Turns, retry_after
from ouroloop.loop.errors import EngineError, NoAnswerError, PromptTooLongError, RecipeError
from ouroloop.loop.records import Prompt, Request, Sampling

KEY = "OPENAI_API_KEY"
# A wrong key, or nothing at this address: asking again changes nothing, for any request.
HOPELESS = (401, 403, 404)
# Worth asking again, beside 5xx: timeout, conflict, too early, too many requests.
PASSING = (408, 409, 425, 429)


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


class LostAnswerError(EngineError):
    """An answer that did not come, or is none: worth asking again."""


class Server:
    """One address, its connections, and whose turn it is."""

    def __init__(self, address: str, limits: Limits) -> None:
        import openai

        self.address, self.limits, self.turns = address, limits, Turns(limits)
        self.url, self.model = split_address(address)
        timeout = openai.Timeout(limits.timeout_seconds, connect=limits.connect_seconds)
        # The client would ask the same server again, and not after an answer that is none.
        self.client = openai.AsyncOpenAI(
            base_url=self.url, api_key=key(), max_retries=0, timeout=timeout
        )

    async def ask(self, request: Request, template: Mapping[str, Any]) -> Answer:
        """One attempt, as soon as the rates allow it.

        Raises:
            LostAnswerError: worth another attempt.
            EngineError, PromptTooLongError, NoAnswerError: as `RemoteEngine.complete`.
        """
        # Four characters a token are the usual rule; the answer's own count corrects it.
        wanted = _size(request.prompt) / 4 + request.sampling.max_tokens
        body = await self.post(request, asked_of(request, template), wanted)
        try:
            model = self.model if self.limits.check_model else None
            answer = read_answer(body, not isinstance(request.prompt, str), model)
        except MalformedAnswerError as error:
            raise LostAnswerError(f"status 200 with no usable answer: {error}") from None
        self.turns.correct(wanted, answer.num_tokens)
        return answer

    async def post(self, request: Request, asked: Mapping[str, Any], num_tokens: float) -> bytes:
        """The body of an answer of status 200, asked for as soon as the rates allow it.

        Args:
            request: for messages.
            asked: what is sent beside the model's name; `messages` are asked as chat turns.
            num_tokens: that it may use.

        Raises:
            LostAnswerError, EngineError, PromptTooLongError, NoAnswerError: as `ask`.
        """
        import openai

        await self.turns.pace(num_tokens)
        try:
            # The client's own limit is between two bytes: a trickle would go on for ever.
            async with asyncio.timeout(self.limits.timeout_seconds):
                return await self._body(asked)
        except openai.APIStatusError as error:
            self._refused(request, error)
        except (TimeoutError, openai.APITimeoutError):
            raise LostAnswerError(f"no answer in {self.limits.timeout_seconds:g} s") from None
        except openai.OpenAIError as error:
            cause = error.__cause__ or error
            # Errors of a broken connection have no message.
            raise LostAnswerError(str(cause) or type(cause).__name__) from None

    async def _body(self, asked: Mapping[str, Any]) -> bytes:
        kind: Any = self.client.completions
        if "messages" in asked:
            kind = self.client.chat.completions
        # Read in pieces: what comes without end must not fill the memory.
        body = bytearray()
        async with kind.with_streaming_response.create(
            **{"model": self.model, **asked}
        ) as response:
            chunks = aiter(response.iter_bytes())
            while chunk := await _next(chunks):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise LostAnswerError(f"an answer of more than {MAX_BYTES >> 20} MiB")
        return bytes(body)

    def _refused(self, request: Request, error: Any) -> NoReturn:
        """What a status other than 200 means for the request, and for the run."""
        status, where = error.status_code, f"request {request.id}: {self.address}"
        # Before the refusals, for its status is 400 like that of a malformed request, while only
        # the prompt's own problem is to blame.
        # vLLM says it in the message, OpenAI in the code.
        if "context length" in str(error) or error.code == "context_length_exceeded":
            raise PromptTooLongError(f"{where}: {error.message}") from None
        if status in HOPELESS:
            # Ends the run: every other request would be refused in the same way.
            raise EngineError(_hopeless(request, self.url, error)) from None
        if status < 500 and status not in PASSING:
            raise NoAnswerError(f"{where}: refused: {error}") from None
        if (seconds := retry_after(error.response.headers)) is not None:
            self.turns.pause(seconds)
        raise LostAnswerError(str(error)) from None


async def _next(chunks: Any) -> bytes:
    """The next bytes; none at the end."""
    try:
        return bytes(await anext(chunks, b""))
    # A connection that breaks within an answer raises the client's transport errors as they are.
    except Exception as error:
        raise LostAnswerError(f"the answer broke off: {type(error).__name__}: {error}") from None


def _hopeless(request: Request, url: str, error: Exception) -> str:
    plain = isinstance(request.prompt, str)
    asked = "completions" if plain else "chat/completions"
    hint = (
        " Plain prompts need a server with /completions; a student with a chat template is"
        " asked in chat turns."
        if plain
        else ""
    )
    return (
        f"request {request.id}: {url}/{asked} failed: {error}. What was sampled is kept:"
        f" `ouroloop resume` goes on.{hint}"
    )


def _size(prompt: Prompt) -> int:
    """Characters."""
    turns = [{"content": prompt}] if isinstance(prompt, str) else prompt
    return sum(len(turn["content"]) for turn in turns)


def asked_of(request: Request, template: Mapping[str, Any]) -> dict[str, Any]:
    """What a request for text sends; `template`: what a chat template is rendered with."""
    settings = {"seed": request.seed, **settings_of(request.sampling)}
    if isinstance(request.prompt, str):
        return {"prompt": request.prompt, **settings}
    if template:
        extra = {**settings.get("extra_body", {}), "chat_template_kwargs": template}
        settings = {**settings, "extra_body": extra}
    return {"messages": [dict(turn) for turn in request.prompt], **settings}


def settings_of(sampling: Sampling) -> dict[str, Any]:
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


def key() -> str:
    """The key, or a word where none is set.

    A server of one's own wants none, but the client does.
    """
    return os.environ.get(KEY) or "none"
