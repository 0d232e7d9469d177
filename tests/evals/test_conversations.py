"""Conversations as problems: turns, what of them is asked, and what of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_data import DATA
from test_dataset_task import Rows, everything, only, task_of, write

from ouroloop.evals.columns import guessed
from ouroloop.evals.errors import DataError
from ouroloop.evals.problem_files import read_demonstrations
from ouroloop.evals.tasks import Turn

RED_TEAM = DATA / "constitutional" / "red_team_prompts.jsonl"


FILLER = [{"role": "user", "content": "Filler"}]
HELD = "User: Held?\n\nAssistant: out\n\nUser: Held out?"
TALK = (("user", "Held?"), ("assistant", "out"), ("user", "Held out?"))


def turns(*spoken: tuple[str, str]) -> Rows:
    return [{"role": role, "content": content} for role, content in spoken]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_last_assistant_turn_of_a_conversation_is_the_solution(
    tmp_path: Path, suffix: str
) -> None:
    rows = [
        {"messages": turns(("user", "2+3?"), ("assistant", "The answer is 5."))},
        {
            "messages": turns(
                ("system", "Be brief."), ("user", "1+1?"), ("assistant", "I say #### 2")
            )
        },
        {"messages": turns(("user", "Hi"), ("assistant", "Hello"), ("user", "3+3?"))},
    ]
    other = write(
        tmp_path / f"held{suffix}", [{"messages": turns(("user", "Held?"), ("assistant", "x"))}]
    )
    task = task_of(write(tmp_path / f"p{suffix}", rows), heldout_path=str(other))
    found = everything(task)
    assert (found["2+3?"].answer, found["2+3?"].solution) == ("5", "The answer is 5.")
    assert (found["1+1?"].answer, found["1+1?"].system) == ("2", "Be brief.")
    assert found["2+3?"].system is None
    unanswered = found["User: Hi\n\nAssistant: Hello\n\nUser: 3+3?"]
    assert (unanswered.answer, unanswered.solution) == (None, None)


def test_a_column_of_system_prompts_is_asked_with_its_question(tmp_path: Path) -> None:
    rows = [{"question": "a", "system_prompt": "Be brief."}, {"question": "b"}]
    found = only(tmp_path / "p.jsonl", rows, columns={"system": "system_prompt"})
    assert {p.question: p.system for p in found} == {"a": "Be brief.", "b": None}
    assert guessed(["question", "system_prompt"]).system == "system_prompt"


def test_conversations_may_come_with_a_column_of_answers_and_another_name(tmp_path: Path) -> None:
    rows = [{"chat": turns(("user", "2+3?"), ("assistant", "five")), "gold": "5"}]
    path = write(tmp_path / "p.jsonl", [*rows, {"chat": turns(("user", "1+1?")), "gold": "2"}])
    heldout = write(tmp_path / "h.jsonl", [{"chat": turns(("user", "Held?")), "gold": "1"}])
    columns = {"messages": "chat", "answer": "gold"}
    problem = everything(task_of(path, heldout_path=str(heldout), columns=columns))["2+3?"]
    assert (problem.answer, problem.solution) == ("5", "five")


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ("text", "is a str"),
        ([], "is a list"),
        ([{"from": "human", "value": "x"}], "holds the turn"),
        ([{"role": "tool", "content": "x"}], "holds the turn"),
        ([{"role": "assistant", "content": "x"}], "without a user's turn"),
    ],
)
def test_a_conversation_of_another_form_is_refused_with_its_place(
    tmp_path: Path, messages: Any, says: str
) -> None:
    path = write(tmp_path / "p.jsonl", [{"messages": messages}])
    with pytest.raises(DataError, match=r"p\.jsonl:1: column 'messages' .*" + says):
        task_of(path).problems("train")


def problem_of(tmp_path: Path, *spoken: tuple[str, Any]) -> Any:
    """The problem of one conversation."""
    heldout = write(tmp_path / "h.jsonl", [{"messages": turns(*TALK)}])
    path = write(tmp_path / "p.jsonl", [{"messages": turns(*spoken)}])
    # With a solution it may be the one in ten that is kept in reserve.
    path.write_text(
        path.read_text() + write(tmp_path / "x.jsonl", [{"messages": FILLER}]).read_text()
    )
    found = everything(task_of(path, heldout_path=str(heldout)))
    (problem,) = [p for p in found.values() if p.question not in ("Filler", HELD)]
    return problem


def test_a_conversation_keeps_its_turns_beside_one_text_of_all_of_them(tmp_path: Path) -> None:
    spoken = (("user", "Hi"), ("assistant", "Hello"), ("user", "3+3?"), ("assistant", "6"))
    found = problem_of(tmp_path, ("system", "Be brief."), *spoken)
    assert found.messages == tuple(Turn(*turn) for turn in spoken[:3])
    assert found.question == "User: Hi\n\nAssistant: Hello\n\nUser: 3+3?"
    assert (found.solution, found.system) == ("6", "Be brief.")


def test_a_single_question_needs_no_turns(tmp_path: Path) -> None:
    assert problem_of(tmp_path, ("user", "3+3?")).messages == ()


def test_turns_of_one_role_in_a_row_are_joined_and_none_is_lost(tmp_path: Path) -> None:
    spoken = (("user", "a"), ("user", "b"), ("assistant", "c"), ("assistant", "d"), ("user", "e"))
    found = problem_of(tmp_path, *spoken)
    assert [turn.content for turn in found.messages] == ["a\n\nb", "c\n\nd", "e"]


def test_an_empty_turn_of_the_assistant_at_the_end_is_no_solution(tmp_path: Path) -> None:
    assert problem_of(tmp_path, ("user", "a"), ("assistant", " \n")).solution is None


def test_a_lone_surrogate_in_any_turn_is_replaced(tmp_path: Path) -> None:
    found = problem_of(tmp_path, ("user", "a\ud800"), ("assistant", "\udfff"), ("user", "c"))
    assert [turn.content for turn in found.messages] == ["a\ufffd", "\ufffd", "c"]
    found.question.encode()


@pytest.mark.parametrize(
    ("spoken", "says"),
    [
        ((("user", "a"), ("assistant", "b"), ("user", " ")), "asks something at its end"),
        ((("system", "a"),), "asks something at its end"),
        ((("user", [{"type": "image_url", "image_url": "x"}]),), "Pictures and sounds are not"),
        ((("user", None),), "expected {.role.: .system., .user. or .assistant., .content.: text}"),
        ((("user", "a"), ("function", "b"), ("user", "c")), "'role': 'function'"),
    ],
)
def test_a_conversation_that_cannot_be_asked_is_refused_with_its_place(
    tmp_path: Path, spoken: tuple[tuple[str, Any], ...], says: str
) -> None:
    path = write(tmp_path / "p.jsonl", [{"messages": turns(*TALK)}, {"messages": turns(*spoken)}])
    with pytest.raises(DataError, match=rf"p\.jsonl:2: .*{says}") as error:
        task_of(path).problems("train")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_conversation_of_200_long_turns_is_a_problem_like_any_other(tmp_path: Path) -> None:
    spoken = [(("user", "assistant")[i % 2], f"{i} " + "x" * 5_000) for i in range(201)]
    assert len(problem_of(tmp_path, *spoken).messages) == 201


def test_conversations_are_demonstrations_of_a_warm_start(tmp_path: Path) -> None:
    spoken = (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    rows: Rows = [
        {"messages": turns(*spoken), "family": "talk"},
        {"question": "q", "solution": "s"},
    ]
    found = read_demonstrations(write(tmp_path / "d.jsonl", rows))
    assert [(p.family, p.solution, len(p.messages)) for p in found] == [
        ("talk", "d", 3),
        ("default", "s", 0),
    ]
    unanswered = write(tmp_path / "u.jsonl", [{"messages": turns(*spoken[:3])}])
    with pytest.raises(DataError, match=r"u\.jsonl:1: no field 'solution'"):
        read_demonstrations(unanswered)


@pytest.mark.skipif(not RED_TEAM.exists(), reason="OUROLOOP_DATA holds no red-team prompts")
def test_published_red_team_conversations_are_read_whole() -> None:
    task = task_of(RED_TEAM)
    problems = [*task.problems("train"), *task.problems("heldout")]
    assert len(problems) == 281 and {p.family for p in problems} == {"red_team"}
    assert sum(len(p.messages) for p in problems) == 851 + 570 - 61
    assert all(p.messages[-1].role == "user" for p in problems if p.messages)
    assert all(p.answer is None and p.solution is None for p in problems)
    assert task.grade(problems[0], "The answer is 4.").correct is None
