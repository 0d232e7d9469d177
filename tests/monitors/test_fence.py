"""What the fence turns into data, what it lets through, and the readers of traces behind it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from ouroloop.monitors.fence import MAX_MESSAGE, Unreadable, attempt, well_formed
from ouroloop.monitors.strategies.strategy import CANONICALISERS
from ouroloop.monitors.strategies.templates import Templates
from ouroloop.monitors.traces.reader import TraceReader


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raising(error):
    def read(text):
        raise error

    return read


def deep(text):
    return deep(text)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        MemoryError(),
        ZeroDivisionError("x"),
        AssertionError(),
        Mute(),
        UnicodeError("\ud800"),
    ],
)
def test_every_exception_of_a_reader_is_data(error):
    found = attempt("dataflow", raising(error), "2*3=6")
    assert isinstance(found, Unreadable)
    assert found.label == f"{type(error).__name__} in dataflow"
    found.message.encode()


def test_a_recursion_that_does_not_end_is_data_too():
    assert attempt("deep", deep, "x") == Unreadable(
        "deep",
        "RecursionError",
        "maximum recursion depth exceeded",
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_ends_a_process_or_a_task_goes_through(error):
    with pytest.raises(error):
        attempt("dataflow", raising(error()), "2*3=6")


def test_errors_that_no_text_is_the_cause_of_go_through():
    with pytest.raises(LookupError, match="extra"):
        attempt("dataflow", raising(KeyError("extra")), "2*3=6", passing=(LookupError,))


def test_a_value_is_returned_and_a_long_message_is_cut():
    assert attempt("length", len, "four") == 4
    assert attempt("x", raising(ValueError("y" * 10_000)), "").message == "y" * MAX_MESSAGE


def test_lone_surrogates_and_nothing_else_are_replaced():
    assert well_formed("a\ud800b\udfffc") == "a\ufffdb\ufffdc"
    for text in ("", "plain", "é😀\x00\u202e", "\U0010ffff"):
        assert well_formed(text) == text


@dataclass(frozen=True)
class Fussy:
    """Raises on texts that say so."""

    name: str = "operators"

    def __call__(self, question: str, text: str) -> str | None:
        if "raise" in text:
            raise ValueError("as asked")
        return "a strategy"


def test_traces_with_texts_that_no_reader_can_read_are_measured_without_those_values(monkeypatch):
    monkeypatch.setitem(CANONICALISERS, "operators", Fussy())
    monkeypatch.setitem(CANONICALISERS, "answer", Fussy("answer"))
    rows = [
        {"problem": f"p{i % 4}", "text": "raise" if i < 3 else "fine \ud800", "correct": True}
        for i in range(8)
    ]
    reader = TraceReader("operators")
    views = [reader.read((f"row {i}", row) for i, row in enumerate(rows)) for _ in range(2)]
    for view in views:
        assert list(view.probe.strategy) == [None] * 3 + ["a strategy"] * 5
        assert list(view.probe.answer) == [None] * 3 + ["a strategy"] * 5
        assert all(text.encode() for text in view.probe.text)
    notes = " | ".join(reader.notes())
    assert "unreadable: 6 of 16 texts (ValueError in operators)" in notes
    assert "unreadable: 6 of 16 texts (ValueError in answer)" in notes


def test_templates_are_learned_from_the_texts_that_can_be_read(monkeypatch):
    import ouroloop.monitors.strategies.templates as templates

    read = templates.steps

    def steps(question, text):
        if "raise" in text:
            raise ValueError("as asked")
        return read(question, text)

    monkeypatch.setattr(templates, "steps", steps)
    texts = ["40+30=70\n7+5=12", "It is 5 * 4 = 20"] * 6
    learned = Templates().fit(["?"] * 13, [*texts, "raise"])
    assert learned.features_ == Templates().fit(["?"] * 12, texts).features_
