"""What a server's answer of status 200 holds, or why it is none.

Nothing of it is believed: a proxy may send HTML, an overloaded server `null`, a cut connection half
a line of JSON.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ouroloop.loop.errors import EngineError

# An answer beyond it is not read to its end: texts of a hundred thousand tokens are below.
MAX_BYTES = 16 * 1024 * 1024


class MalformedAnswerError(EngineError):
    """An answer that is not what was asked for; asked again it may be another."""


class _Part(BaseModel):
    # Servers add fields of their own; those that are read are never coerced.
    model_config = ConfigDict(extra="ignore", strict=True)


class _Message(_Part):
    content: str | None


class _Turn(_Part):
    message: _Message
    finish_reason: str | None = None


class _Text(_Part):
    text: str | None
    finish_reason: str | None = None


class _Answer(_Part):
    model: str | None = None
    usage: Any = None


class _ChatAnswer(_Answer):
    choices: list[_Turn] = Field(min_length=1)


class _PlainAnswer(_Answer):
    choices: list[_Text] = Field(min_length=1)


class Answer(BaseModel):
    """A server's answer.

    Attributes:
        text: as it was written, perhaps empty.
        is_whole: it ended by itself. Cut, filtered and empty answers are none to learn from.
        num_tokens: prompt and answer together, as the server counts; None where it does not say.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    is_whole: bool
    num_tokens: int | None


def read_answer(body: bytes, is_chat: bool, model: str | None) -> Answer:
    """The answer that a response's body holds.

    Args:
        body: of a response of status 200.
        is_chat: asked by /chat/completions.
        model: the one that was asked, None: any may answer.

    Raises:
        MalformedAnswerError: it is not JSON of the expected form, text that is not Unicode, or of
            another model.
    """
    kind = _ChatAnswer if is_chat else _PlainAnswer
    try:
        found = kind.model_validate_json(body)
    except ValidationError as error:
        # Without its input: a model's text has no place in an error.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise MalformedAnswerError(f"{where}: {first['msg']}") from None
    # A server that names no model is believed: the field is missing from several of them.
    if model is not None and found.model is not None and not _is_same(model, found.model):
        raise MalformedAnswerError(
            f"model: answered by {found.model[:80]!r}, asked was {model!r}"
            " (`servers.check_model: false` where a proxy renames)"
        )
    # One was asked for; a server that sends several is not worth an error.
    choice = found.choices[0]
    text = choice.message.content if isinstance(choice, _Turn) else choice.text
    return Answer(
        text=text or "",
        # A server that gives no reason counts as one that cut: nobody knows that it did not.
        is_whole=choice.finish_reason == "stop" and bool(text),
        num_tokens=_total(found.usage),
    )


def _is_same(asked: str, answered: str) -> bool:
    """Whether two names are of one model: APIs add a date or leave out the organisation."""
    names = (name.rsplit("/", 1)[-1].casefold() for name in (asked, answered))
    short, long = sorted(names, key=len)
    # What follows is a part of its own: gpt-4-2024-08-06 is gpt-4, gpt-4o is not.
    return bool(short) and long.startswith(short) and not long[len(short) :][:1].isalnum()


def _total(usage: Any) -> int | None:
    # A rate rests on it and nothing else, so a strange count costs no answer.
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total >= 0 else None
