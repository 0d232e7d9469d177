"""What a completions endpoint says in token ids: read, and never believed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ouroloop.loop.engines.answers import MalformedAnswerError
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import EngineError
from ouroloop.loop.records import Request, Scored


class _Part(BaseModel):
    # Servers add fields of their own.
    model_config = ConfigDict(extra="ignore")


class Logprob(_Part):
    """Of one token at one position: nats, and its place among all (1: the most likely)."""

    logprob: float | None
    rank: int | None = None


class _Logprobs(_Part):
    token_logprobs: list[float | None] = Field(default_factory=list)


class Choice(_Part):
    """One completion. vLLM alone fills the last four fields."""

    text: str | None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None


class _Answer(_Part):
    choices: list[Choice] = Field(min_length=1)


def read_choice(body: bytes) -> Choice:
    """The first choice of a response's body.

    Raises:
        MalformedAnswerError: it is not JSON of the expected form.
    """
    try:
        return _Answer.model_validate_json(body).choices[0]
    except ValidationError as error:
        # Without its input: a model's text has no place in an error.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MalformedAnswerError(f"{where}: {first['msg']}") from None


def own_ids(choice: Choice, codec: Codec, request: Request) -> list[int]:
    """The token ids of a completion: the server's own, or those of its text."""
    if choice.token_ids is not None:
        return choice.token_ids
    ids = codec.completion_ids(request.prompt, choice.text or "")
    # completion_ids ends every text with a stop token; a cut text has none.
    is_whole = choice.finish_reason == "stop" and len(ids) - 1 <= request.sampling.max_tokens
    return ids if is_whole else ids[:-1][: request.sampling.max_tokens]


def logprobs_of(choice: Choice, num_tokens: int) -> tuple[float, ...]:
    """Log-probabilities (nats), one for each token; none where the server does not say all."""
    given = choice.logprobs.token_logprobs if choice.logprobs is not None else []
    known = [value for value in given if value is not None]
    return tuple(known) if choice.token_ids is not None and len(known) == num_tokens else ()


def scored_of(
    choice: Choice, completion_ids: Sequence[int], version: str, num_top: int, url: str
) -> Scored:
    """A given text under the server's weights.

    Raises:
        EngineError: the server gives no log-probabilities of a prompt.
    """
    found = (choice.prompt_logprobs or [])[-len(completion_ids) :]
    at_T = [position for position in found if position is not None]
    if len(at_T) != len(completion_ids):
        raise EngineError(
            f"{url}: no log-probabilities of a given text (`prompt_logprobs`, which vLLM has), so"
            " its weights cannot be proven and no text can be scored. Use vLLM's server, or set"
            " engine.weight_sync_check: false, probe.texts: 0 and probe.traces: 0."
        )
    pairs = list(zip(completion_ids, at_T, strict=True))
    return Scored(
        token_ids=tuple(completion_ids),
        logprobs=tuple(_value(position, token) for token, position in pairs),
        entropies=tuple(_entropy(position, num_top) for position in at_T),
        exact=False,
        weight_version=version,
    )


def _value(position: Mapping[int, Logprob], token: int) -> float:
    found = position.get(token)
    # JSON has no infinity: what is left out is impossible.
    return -math.inf if found is None or found.logprob is None else found.logprob


def _entropy(position: Mapping[int, Logprob], num_top: int) -> float:
    """Entropy (nats) of the most likely tokens and of all others as one: a lower bound."""
    # The text's own token stands among them even where it is not one of the most likely.
    top = [each for each in position.values() if each.rank is None or each.rank <= num_top]
    p = np.exp([each.logprob for each in top if each.logprob is not None])
    rest = max(0.0, 1.0 - float(p.sum()))
    parts = np.append(p, rest)
    parts = parts[parts > 0]
    return float(-(parts * np.log(parts)).sum())
