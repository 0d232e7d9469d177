"""The fields of a trace row, and the check of one row: what JSON must be to become a sample.

docs/traces.md says the same in words.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ouroloop.monitors.estimators.estimand import RESERVED
from ouroloop.monitors.fence import well_formed


class TraceError(ValueError):
    """Traces are wrong; the message says where, got, expected and remedy."""


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        expected: what its value must be, for messages.
        read: raises ValueError for anything else.
        without: what it means that a row has none.
    """

    expected: str
    read: Callable[[Any], Any]
    without: str


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return well_formed(value)


def _name(value: Any) -> str:
    """A text, or a number that stands for one: 3, 3.0 and "3" are the same name."""
    if isinstance(value, str):
        return well_formed(value).strip()
    # JSON writers differ in whether 3 is an integer; True is one to Python, and is no name.
    # 3.0 and 3 are one name, or a problem would change its id between two writers.
    if isinstance(value, float) and isfinite(value) and value == int(value):
        value = int(value)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or value in (float("inf"), float("-inf"))
        or value != value
    ):
        raise ValueError
    return str(value)


def _label(value: Any) -> str:
    """The name of a family or a slice."""
    name = _name(value)
    if name in RESERVED:
        raise ValueError
    return name


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError
    return well_formed(str(value))


def _truth(value: Any) -> float:
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise ValueError
    # The constants, not a number of its own for each of a million rows.
    return 1.0 if value else 0.0


def _number(value: Any, least: float = 0.0) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not isfinite(value)
        or value < least
    ):
        raise ValueError
    return float(value)


def _count(value: Any) -> float:
    if _number(value) != int(value):
        raise ValueError
    return float(value)


def round_number(value: Any) -> Any:
    """A round's number; a text that is one counts as it, as in CSV. Others are left as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _round(value: Any) -> float:
    return _count(round_number(value))


def _logprobs(value: Any) -> tuple[float, int] | None:
    """(mean negative log-probability, tokens); None for no tokens."""
    if not isinstance(value, list):
        raise ValueError
    for x in value:
        # 1e-3: engines round, and the logarithm of a probability near 1 may end just above 0.
        if type(x) not in (float, int) or not isfinite(x) or x > 1e-3:
            raise ValueError
    if not value:
        return None
    return -sum(value) / len(value), len(value)


OVERALL = "overall"
"""The criterion of a verdict that names none."""


def _share(value: Any) -> float:
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise ValueError
    return _truth(value) if value in (0, 1) else float(value)


def _approved(value: Any) -> dict[str, float | None]:
    """Criterion -> 0 to 1, or None."""
    if not isinstance(value, Mapping):
        return {OVERALL: _share(value)}
    found = {_name(name): None if x is None else _share(x) for name, x in value.items()}
    if not all(found):
        raise ValueError
    return found


# In the order in which a missing field is reported.
FIELDS: Mapping[str, Field] = {
    "problem": Field("the prompt's id, a text or a whole number, the same in every file", _id, ""),
    "text": Field(
        "the sampled completion, a text",
        _text,
        "no strategy or answer can be read from it",
    ),
    "correct": Field(
        "true, false or null",
        _truth,
        "such samples are unscored: neither right nor wrong",
    ),
    "strategy": Field("a text or null", _name, "such samples count as one strategy of their own"),
    "answer": Field(
        "the sample's own final answer, a text or a number, or null",
        _name,
        "such samples vote for nothing",
    ),
    "question": Field("the prompt, a text", _text, ""),
    "family": Field(
        'a text other than "all" and "others"',
        _label,
        'such problems are one family, "default"',
    ),
    "slice": Field(
        'a text other than "all" and "others"; "tail" marks hard problems',
        _label,
        "such problems are typical, and no tail is guarded by itself",
    ),
    "valid": Field(
        "true, false or null: whether every step is right",
        _truth,
        "right answers by wrong steps are not measured",
    ),
    "logprobs": Field(
        "a list with one log-probability, at most 0, per completion token",
        _logprobs,
        "trace entropy is not measured",
    ),
    "nll": Field(
        "the mean negative log-probability per completion token, a number of at least 0",
        _number,
        "",
    ),
    "num_tokens": Field(
        "a whole number of at least 0",
        _count,
        "lengths of unscored text are counted in words, or characters where it has no blanks; no"
        " trace entropy from `nll` alone",
    ),
    "truncated": Field(
        "true or false: cut by the token limit",
        _truth,
        "truncation is not measured",
    ),
    "cluster": Field(
        "a text, or null: the response cluster, by a clustering that is frozen at the baseline",
        _name,
        "",
    ),
    "approved": Field(
        "true, false or null, a score from 0 to 1, or an object of these by criterion: what a"
        " frozen judge says",
        _approved,
        "",
    ),
    "kept": Field(
        "true or false: passed the filter into the training set",
        _truth,
        "yield and selection are not measured",
    ),
    "round": Field("the round's number, a whole number of at least 0", _round, ""),
}
# Only for messages: a field is never read under another name, which would be a guess.
OFTEN = {
    "response": "text",
    "completion": "text",
    "output": "text",
    "trace": "text",
    "generation": "text",
    "prompt": "question",
    "id": "problem",
    "problem_id": "problem",
    "prompt_id": "problem",
    "reward": "correct",
    "is_correct": "correct",
    "label": "correct",
    "pred": "answer",
    "prediction": "answer",
    "logprob": "logprobs",
    "token_logprobs": "logprobs",
    "length": "num_tokens",
    "accepted": "kept",
    "Round": "round",
    "rounds": "round",
    "step": "round",
    "global_step": "round",
    "epoch": "round",
    "iteration": "round",
}
"""What others often call a field."""
SAMPLE = '{"problem": "p1", "text": "2+3=5. The answer is 5.", "correct": true}'
NUMBER_PROMPTS = "Number the prompts if they have no ids."
QUIET = ("question", "nll", "cluster", "approved", "round")
"""Fields whose absence means nothing by itself."""
REPEATED = frozenset({"problem", "strategy", "answer", "question", "family", "slice", "cluster"})
"""Fields whose strings are the same in many rows."""


def read_row(row: Any, where: str) -> dict[str, Any]:
    """The row's values by field, None where it has none; `logprobs` become `nll` and `num_tokens`.

    Raises:
        TraceError: no object, no problem, or a value of the wrong kind.
    """
    if not isinstance(row, Mapping):
        raise TraceError(
            f"{where}: got {shown(row)}; expected one JSON object per line, such as {SAMPLE}."
        )
    # Every field is there afterwards, in this order, so that columns stay aligned.
    out: dict[str, Any] = dict.fromkeys(FIELDS)
    for name, value in row.items():
        field = FIELDS.get(name)
        if field is None or value is None:
            continue
        try:
            out[name] = field.read(value)
        except (ValueError, OverflowError):
            raise TraceError(
                f"{where}: {name} is {shown(value)}; expected {field.expected}."
                f" {_remedy(name, value)}"
            ) from None
    if out["problem"] is None and "problem" in row:
        raise TraceError(
            f"{where}: problem is empty (null); expected {FIELDS['problem'].expected}."
            f" {NUMBER_PROMPTS}"
        )
    if out["problem"] is None:
        # The commonest mistake of a first file, so it gets a guess of its own.
        hint = guess("problem", row)
        remedy = NUMBER_PROMPTS
        if hint:
            remedy = f"Is it what you call {hint!r}? Rename that."
        raise TraceError(
            f"{where}: no field 'problem', got {sorted(map(str, row))}; expected"
            f" {FIELDS['problem'].expected}, as in {SAMPLE}. {remedy}"
        )
    if out["logprobs"] is not None:
        out["nll"], num = out["logprobs"]
        if out["num_tokens"] is not None and out["num_tokens"] != num:
            raise TraceError(
                f"{where}: num_tokens is {out['num_tokens']:g}, but there are {num} logprobs;"
                " expected one for each completion token, none for the prompt. Drop num_tokens to"
                " have them counted."
            )
        out["num_tokens"] = float(num)
        # Said by these two; the caller keeps what is returned.
        out["logprobs"] = None
    return out


def guess(name: str, row: Mapping[str, Any]) -> str | None:
    """What the row may call this field."""
    known = [key for key in row if OFTEN.get(str(key)) == name]
    # First what others are known to call it, then what is spelt nearly so.
    # 0.8 finds a typo, and does not find another word.
    near = difflib.get_close_matches(
        name,
        [str(key) for key in row if key not in FIELDS],
        n=1,
        cutoff=0.8,
    )
    return next((str(key) for key in [*known, *near]), None)


def shown(value: Any) -> str:
    """A value for a message, cut."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _remedy(name: str, value: Any) -> str:
    if name == "correct" and type(value) in (int, float):
        return "Turn a score into a verdict first, e.g. score >= 1."
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return "Write it without quotation marks."
    if name == "problem" and isinstance(value, float) and isfinite(value):
        return "Write whole numbers without a decimal point, in every file alike."
    if name == "problem":
        return NUMBER_PROMPTS
    if name == "round":
        return "Number the rounds 0, 1, 2, ..., or leave the field out of every row."
    if isinstance(value, str) and value in RESERVED:
        return "Rename it: that name stands for several families or slices together."
    return "Leave the field out, or null, where it is not known."


def name_of(text: str) -> str:
    """A text's own name: equal but for blanks, equal names."""
    words = " ".join(text.split()).encode("utf-8", "surrogatepass")
    return f"text-{hashlib.sha256(words).hexdigest()[:16]}"
