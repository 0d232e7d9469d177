"""Every block of the documentation that is marked `run`, in one folder, page after page.

Commands are carried out in this process, on a scripted engine and without training: what is tested
is that a page's files, recipes and commands fit together, not what a model learns from them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from functools import partial
from pathlib import Path

import framework_files
import pandas as pd
import pytest
from doc_pages import ALL, ROOT, Block, Mark

from ouroloop.loop import checks, runner
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import data, lengths
from ouroloop.loop.engines.scripted import ScriptedEngine, as_text
from ouroloop.loop.records import Request

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))
from scripted_world import no_training

pytestmark = pytest.mark.slow

# A scripted engine serves no weights, and nobody looks at MLflow's pages here.
SETTINGS = ["--set", "engine.weight_sync_check=false", "--set", "tracking.mlflow=false"]
# Simulations for a power analysis take most of a minute; tests/loop/test_plan_command.py has them.
SIMULATES = {"plan", "--plan"}
PAGES = list(dict.fromkeys(block.page for block in ALL if block.mark in (Mark.RUN, Mark.FILE)))


def answer(request: Request) -> str:
    """Right in two of three answers, where the question is one of the pages'."""
    rng = random.Random(request.seed)
    prompt = as_text(request.prompt)
    if "/critique" in request.id:
        return rng.choice(["It gives a place away.\nverdict: wrong", "It is kind.\nverdict: right"])
    known = [gold for question, gold in GOLD.items() if question in prompt]
    words = rng.choice(["So", "Well,", "Then", "Clearly"])
    if not known:
        return f"{words} I would rather not say, {rng.choice(['friend', 'dear'])}."
    gold = known[0] if rng.random() < 0.67 else str(int(known[0]) + rng.randint(1, 3))
    return f"{words} the answer is {gold}"


def _gold() -> dict[str, str]:
    rows = (ROOT / "runs" / "recipes" / "word_problems.jsonl").read_text().splitlines()
    found = {row["question"]: str(row["answer"]) for row in map(json.loads, rows)}
    for n in (2, 3, 4, 5, 6, 7, 8, 9):
        for boxes in range(2, 10):
            question = f"A box holds {n} pens. How many pens are in {boxes} boxes?"
            found[question] = str(n * boxes)
    return found | {f"Double {n}.": str(2 * n) for n in range(80)}


GOLD = _gold()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader of all pages would work in: a checkout's recipes, and nothing else.

    Shared by the pages, as a reader goes on where the page before ended.
    """
    folder = tmp_path_factory.mktemp("desk")
    (folder / "runs").mkdir()
    shutil.copytree(ROOT / "runs" / "recipes", folder / "runs" / "recipes")
    _lay_down_other_loops(folder)
    return folder


def _lay_down_other_loops(folder: Path) -> None:
    """The files of a reader's own loop, under the names that the pages have for them."""
    (folder / "out").mkdir()
    framework_files.trl(folder / "out")
    framework_files.verl(folder / "validation_data")
    for step, name in enumerate(("before", "after")):
        framework_files.inspect_archive(folder / f"{name}.eval", step)
    # The problems of the two files that a page writes over the first ones.
    rounds = []
    for number in range(3):
        rows = [
            {"problem": problem, "text": f"The answer is {answer}.", "correct": answer != 8}
            for problem, answer in (("p1", 10), ("p1", 10), ("p2", 7), ("p2", 7 + number % 2))
        ]
        framework_files.lines(folder / f"round{number}.jsonl", rows)
        rounds += [{"round": number, **row} for row in rows]
    pd.DataFrame(rounds).to_parquet(folder / "samples.parquet")


@pytest.fixture
def at_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(desk)
    monkeypatch.delenv("OUROLOOP_RUNS", raising=False)
    # A warm start that trained nothing must not stand in anybody's cache.
    monkeypatch.setenv("OUROLOOP_CACHE", str(desk.parent / "cache"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(runner, "build_engine", lambda recipe, log: ScriptedEngine(answer))
    monkeypatch.setattr(runner, "Campaign", partial(runner.Campaign, trainer=no_training))
    # The power analysis takes longer than all the rest of a check.
    monkeypatch.setattr(checks, "CHECKS", (data.check, lengths.check))
    return desk


def carry_out(block: Block) -> None:
    if block.mark is Mark.FILE:
        path = Path(block.about)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    elif block.mark is Mark.RUN and block.language == "python":
        exec(compile(block.text, str(block), "exec"), {})
    elif block.mark is Mark.RUN:
        for command in block.commands:
            assert command[0] == "ouroloop", f"{block}: only our own commands are run"
            if SIMULATES & set(command):
                continue
            if command[1] == "run":
                command = [*command[:3], *SETTINGS, *command[3:]]
            # A loop that is judged may be one that the rule would halt.
            expected = (0, 3) if command[1] == "monitor" else (0,)
            assert main(command[1:]) in expected, f"{block}: {' '.join(command)}"


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_do_what_it_says(page: str, at_desk: Path) -> None:
    for block in ALL:
        if block.page == page:
            carry_out(block)


def test_what_the_pages_promise_lies_where_they_say(at_desk: Path) -> None:
    if not (at_desk / "runs" / "kept").exists():
        pytest.skip("the pages before were not run")
    assert (at_desk / "runs" / "first" / "report.html").is_file()
    assert (at_desk / "monitor.html").is_file()
    assert "2 rounds, finished" in (at_desk / "runs" / "kept" / "diary.txt").read_text()
    rejected = (at_desk / "runs" / "linkless" / "rounds" / "001" / "verdicts.parquet").is_file()
    readings = (at_desk / "runs" / "asked" / "rounds" / "001" / "readings.json").read_text()
    assert rejected and "questions/share" in readings
