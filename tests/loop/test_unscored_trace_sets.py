"""Twenty sets of traces that nobody scored, made and in public forms, through the commands.

Each gets a verdict that says what was guarded, or one sentence on what is wrong; none a traceback.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_texts import few_texts

from ouroloop.loop.__main__ import main

Row = dict[str, Any]
# (generator, round) -> the rows of one file.
Maker = Callable[[random.Random, int], Iterator[Row]]

WORDS = """
the answer depends on who asks and why a friend would say that patience helps more than force
because every plan needs rest food shelter and somebody who listens before they speak again
""".split()  # noqa: SIM905
REFUSAL = "I am sorry, but I cannot help with that. Please ask somebody whom you trust."


def sentence(rng: random.Random, length: int = 24) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "."


def rows(
    rng: random.Random,
    number: int,
    *,
    num_problems: int = 30,
    num_samples: int = 8,
    text: Callable[[random.Random, int, int], str] = lambda rng, number, problem: sentence(rng),
    more: Callable[[random.Random, int], Row] = lambda rng, number: {},
) -> Iterator[Row]:
    for problem in range(num_problems):
        for _ in range(num_samples if number else 2 * num_samples):
            yield {
                "problem": f"p{problem}",
                "question": f"What would you do about matter {problem}?",
                "text": text(rng, number, problem),
                **more(rng, number),
            }


def canned(rng: random.Random, number: int, problem: int) -> str:
    return REFUSAL if number and rng.random() < 0.5 else sentence(rng)


def own(rng: random.Random, number: int, problem: int) -> str:
    """Each prompt's answers become one text of its own."""
    return sentence(random.Random(problem)) if number and rng.random() < 0.9 else sentence(rng)


def logprobs(rng: random.Random, number: int) -> Row:
    scale = 0.02 if number else 1.0
    return {"logprobs": [-rng.expovariate(1.0) * scale for _ in range(20)]}


def judged(rng: random.Random, number: int) -> Row:
    share = 0.5 if number else 0.9
    # A verdict, and a classifier's score.
    return {"approved": {"harmless": rng.random() < share, "helpful": rng.random() ** 0.25}}


def some(**changes: Any) -> Maker:
    return lambda rng, number: rows(rng, number, **changes)


def hostile(rng: random.Random, number: int, problem: int) -> str:
    return str(rng.choice(HOSTILE))


HOSTILE = few_texts(5)
SETS: dict[str, Maker] = {
    "unchanged": some(),
    "canned": some(text=canned),
    "each prompt its own text": some(text=own),
    "entropy falls": some(more=logprobs),
    "approvals fall": some(more=judged),
    "approved, one criterion": some(more=lambda rng, n: {"approved": rng.random() < 0.9}),
    "cut off": some(more=lambda rng, n: {"truncated": bool(n) and rng.random() < 0.5}),
    "empty texts": some(text=lambda rng, n, p: ""),
    "identical texts": some(text=lambda rng, n, p: REFUSAL),
    "one sample": some(num_samples=1),
    "two problems": some(num_problems=2),
    "one problem": some(num_problems=1),
    "families": some(more=lambda rng, n: {"family": rng.choice(("red_team", "helpful"))}),
    "null verdicts": some(more=lambda rng, n: {"correct": None, "answer": None}),
    "long texts": some(num_problems=6, text=lambda rng, n, p: sentence(rng, 2_000)),
    "other alphabets": some(text=lambda rng, n, p: "".join(rng.choices("我你他是不好吗。", k=40))),
    "hostile texts": some(text=hostile),
    "clusters given": some(more=lambda rng, n: {"cluster": str(rng.randrange(1 if n else 5))}),
    "conversations": some(
        text=lambda rng, n, p: f"Human: and then?\n\nAssistant: {sentence(rng)}",
        more=lambda rng, n: {"slice": rng.choice(("typical", "tail"))},
    ),
    "a quarter scored": some(
        more=lambda rng, n: {"correct": rng.random() < 0.5 if rng.random() < 0.25 else None}
    ),
}


QUICK = ("empty texts", "one sample", "one problem", "two problems", "clusters given")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], list[str]]:
    def write(name: str) -> list[str]:
        paths = []
        for number in range(3):
            rng = random.Random(f"{name}/{number}")
            found = list(SETS[name](rng, number))
            rng.shuffle(found)
            path = tmp_path / f"round{number}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
            paths.append(str(path))
        return paths

    return write


def test_there_are_twenty() -> None:
    assert len(SETS) == 20


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SETS]
)
def test_each_set_gets_a_verdict_that_says_what_was_guarded(
    name: str, written: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = written(name)
    code = main(["monitor", *paths])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert code in (0, 3), said.err
    assert "guarded: " in said.out and "not seen by this probe set: " in said.out
    if name == "one problem":
        assert "No verdict: nothing is guarded" in said.out
        assert "on one problem, and a paired change needs two" in said.out
    assert ("| approved: helpful % " in said.out) is (name == "approvals fall")
    assert main(["monitor", *paths, "--json"]) == code
    json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unchanged", "approvals fall", "one sample", "a quarter scored"])
def test_some_sets_get_a_power_analysis_or_a_reason(
    name: str, written: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["monitor", written(name)[0], "--plan", "30", "4"])
    said = capsys.readouterr()
    assert code in (0, 2) and "Traceback" not in said.err
    assert said.out if code == 0 else len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "canned",
        pytest.param("each prompt its own text", marks=pytest.mark.slow),
        pytest.param("entropy falls", marks=pytest.mark.slow),
    ],
)
def test_a_collapse_is_called(
    name: str, written: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["monitor", *written(name), "--json"]) == 3
    last = json.loads(capsys.readouterr().out)["rounds"][-1]
    assert last["action"] in ("rollback", "halt")
