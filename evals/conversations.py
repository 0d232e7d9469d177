"""A conversation as a problem: what is asked, under which system prompt, and what answers it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ouroloop.evals.errors import DataError
from ouroloop.evals.tasks import Problem, Turn
from ouroloop.monitors.fence import well_formed

FORM = '[{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'


class Conversation(NamedTuple):
    """A conversation as one problem; solution and system prompt may be missing.

    `messages` are its turns up to the last of the user, or none where that is the only one;
    `question` is the same as one text.
    """

    question: str
    messages: tuple[Turn, ...]
    solution: str | None
    system: str | None


def read_conversation(raw: Any, column: str, where: str) -> Conversation:
    """The last assistant turn is the solution, system turns are the system prompt.

    Turns of one role that follow one another are joined by a blank line: chat templates of many
    models refuse them.

    Raises:
        DataError: it is no list of turns, a turn has no text, or nothing is asked at its end.
    """
    spoken = [_turn(turn, column, where) for turn in _list(raw, column, where)]
    system = "\n\n".join(text for role, text in spoken if role == "system")
    turns = _joined((role, text) for role, text in spoken if role != "system")
    solution = None
    if turns and turns[-1].role == "assistant":
        solution = turns.pop().content
    if not turns or not turns[-1].content.strip():
        raise DataError(
            f"{where}: column {column!r} holds a conversation without a user's turn that asks"
            f" something at its end; expected {FORM}. Remove the row."
        )
    # A single question needs no turns: its prompt is the template's, as in a file of questions.
    messages = tuple(turns) if len(turns) > 1 else ()
    if solution is not None and not solution.strip():  # the place of an answer that is to come
        solution = None
    return Conversation(flat(turns), messages, solution, system if system.strip() else None)


def flat(turns: Sequence[Turn]) -> str:
    """Turns as one text: a single one as it is, of several each after its speaker."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in turns)


def questions_of(problem: Problem) -> Iterator[str]:
    """All that a problem's conversation asks, its own question last; each as one text.

    What its earlier assistant turns answer is asked too: a training text that holds it gives the
    answer away.
    """
    for number, turn in enumerate(problem.messages):
        if turn.role == "assistant":
            yield flat(problem.messages[:number])
    yield problem.question


def _joined(spoken: Iterable[tuple[str, str]]) -> list[Turn]:
    turns: list[Turn] = []
    for role, text in spoken:
        if turns and turns[-1].role == role:
            turns[-1] = turns[-1]._replace(content=f"{turns[-1].content}\n\n{text}")
        else:
            turns.append(Turn("user" if role == "user" else "assistant", text))
    return turns


def _list(raw: Any, column: str, where: str) -> Sequence[Any]:
    if isinstance(raw, list) and raw:
        return raw
    raise DataError(
        f"{where}: column {column!r} is a {type(raw).__name__} ({str(raw)[:40]!r}); expected a list"
        f" of turns, {FORM}. Remove the row, or name another column in task.columns."
    )


def _turn(turn: Any, column: str, where: str) -> tuple[str, str]:
    """(role, text) of one turn."""
    fields = turn if isinstance(turn, dict) else {}
    role, content = fields.get("role"), fields.get("content")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        remedy = "Rename its fields, or remove the row."
        # A list of parts, as of models that see pictures.
        if isinstance(content, list):
            remedy = "Pictures and sounds are not read: give the text alone, or remove the row."
        raise DataError(
            f"{where}: column {column!r} holds the turn {well_formed(str(turn))[:60]!r}; expected"
            f' {{"role": "system", "user" or "assistant", "content": text}}. {remedy}'
        )
    return role, well_formed(content)
