"""Every block of the documentation has a mark, every command is one, every recipe resolves.

What is run is run in `test_blocks_run.py`; nothing here starts anything.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from doc_pages import ALL, FENCE, OUTPUT, ROOT, Block, Mark, blocks, pages

from ouroloop.loop.commands.parser import parser
from ouroloop.loop.recipes.recipe_file import resolve

MARKED = [block for block in ALL if block.language != OUTPUT]
CONSOLE = [block for block in MARKED if block.language in ("console", "bash")]
# A command of ours within a sentence, with an argument at least.
WITHIN = re.compile(r"`(ouroloop\s[a-z][^`\s]*\s[^`]+)`")
# Programs beside ours that the pages name.
OTHERS = {"python", "trackio", "wandb", "pip"}


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_every_block_says_what_is_done_with_it(block: Block) -> None:
    assert block.mark is not Mark.MISSING, (
        f"{block}: a block without a mark. Write one of the comments of tests/docs/doc_pages.py"
        " before it, or call it `text` if it is output."
    )
    needs_about = block.mark in (Mark.FILE, Mark.NOT_RUN)
    assert bool(block.about) == needs_about, f"{block}: its mark lacks, or has, a word too many"
    assert block.language, f"{block}: a block without a language"


def test_a_block_without_a_mark_or_with_a_wrong_one_is_seen(tmp_path: Path) -> None:
    page = ROOT / "docs" / "glossary.md"
    made = tmp_path / "page.md"
    made.write_text("```console\nls\n```\n\n<!-- later -->\n```console\nls\n```\n")
    found = _of(made)
    assert [block.mark for block in found] == [Mark.MISSING, Mark.MISSING]
    assert list(blocks(page)) == []


def _of(page: Path) -> list[Block]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("doc_pages.ROOT", page.parent)
        return list(blocks(page))


def test_blocks_that_are_not_run_are_few_and_each_has_its_reason() -> None:
    left_out = [block for block in MARKED if block.mark is Mark.NOT_RUN]
    # Whoever adds one raises the number on purpose.
    assert len(left_out) == 12, "\n".join(f"{block}: {block.about}" for block in left_out)
    tests = re.findall(r"tests/[\w/]+\.py", " ".join(block.about for block in left_out))
    assert tests and all((ROOT / name).is_file() for name in tests)


def check(command: list[str]) -> None:
    """Raise where a command of ours is none, or has an option that it does not know."""
    while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
        command = command[1:]
    if command[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert command[1] in targets, f"make {command[1]}: no such target"
    elif command[0] == "ouroloop":
        try:
            parser().parse_args(command[1:])
        except SystemExit as error:
            raise AssertionError(f"{' '.join(command)}: not a command") from error
    else:
        assert command[0] in OTHERS, f"{command[0]}: a program that no page may name"


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_every_command_of_a_page_is_one_with_options_that_it_has(block: Block) -> None:
    assert block.commands
    for command in block.commands:
        check(command)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_the_commands_of_the_pages_beside_the_docs_are_ones(name: str) -> None:
    shown = [block for block in blocks(ROOT / name) if block.language in ("", "console", "bash")]
    num = 0
    for block in shown:
        for line in block.text.splitlines():
            if not re.match(r"(ouroloop|make) [a-z]", line):
                continue
            words = Block(name, block.line, "console", f"{line}\n", Mark.RUN, "").commands[0]
            check(words)
            num += 1
    assert num > 5


@pytest.mark.parametrize("page", [*pages(), ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_within_a_sentence_are_ones_with_options_that_they_have(page: Path) -> None:
    for command in within(page.read_text(encoding="utf-8")):
        check(command)


def within(text: str) -> list[list[str]]:
    """The commands of a page outside its blocks, numbers in the place of N."""
    found = WITHIN.findall(FENCE.sub("", text))
    return [["1" if word == "N" else word for word in shlex.split(each)] for each in found]


def test_commands_within_sentences_are_found_over_line_ends_and_not_in_blocks() -> None:
    assert within(
        "So `ouroloop show\nx --round N`, or `ouroloop ui`.\n```text\n`ouroloop run x`\n```"
    ) == [["ouroloop", "show", "x", "--round", "1"]]
    num = sum(len(within(page.read_text(encoding="utf-8"))) for page in pages())
    assert num > 20


@pytest.mark.parametrize("wrong", ["ouroloop rum demo", "ouroloop show demo --rond 2", "make tea"])
def test_a_wrong_command_is_found(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check(wrong.split())


def _recipes() -> list[Block]:
    is_file = [b for b in MARKED if b.mark is Mark.FILE and b.about.endswith(".yaml")]
    studies = [b for b in is_file if b.about.endswith("study.yaml")]
    return [
        *(b for b in MARKED if b.mark is Mark.RECIPE),
        *(b for b in is_file if b not in studies),
    ]


@pytest.mark.parametrize("block", _recipes(), ids=str)
def test_a_recipe_of_a_page_has_no_unknown_key(tmp_path: Path, block: Block) -> None:
    for other in ALL:
        if other.mark is Mark.FILE and other.about.endswith((".py", ".csv", ".jsonl", ".json")):
            file = tmp_path / other.about
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(other.text)
    shown = yaml.safe_load(block.text)
    recipe = resolve({"name": "shown", **shown}, base=tmp_path)
    assert recipe.name == shown.get("name", "shown")


def test_the_recipe_of_the_readme_has_no_unknown_key() -> None:
    (shown,) = [block for block in blocks(ROOT / "README.md") if block.language == "yaml"]
    assert resolve(yaml.safe_load(shown.text), base=ROOT).name == "first"


def test_every_recipe_block_is_checked_as_one() -> None:
    yamls = [b for b in MARKED if b.language == "yaml" and not b.about.endswith("study.yaml")]
    assert {str(b) for b in yamls} == {str(b) for b in _recipes()} and len(yamls) >= 8


@pytest.mark.parametrize("block", [b for b in MARKED if b.language == "python"], ids=str)
def test_python_of_a_page_compiles(block: Block) -> None:
    assert compile(block.text, str(block), "exec").co_filename == str(block)


@pytest.mark.parametrize("block", [b for b in MARKED if b.language == "json"], ids=str)
def test_json_of_a_page_is_json(block: Block) -> None:
    if block.about.endswith(".jsonl"):
        assert [json.loads(line) for line in block.text.splitlines()]
    else:
        assert json.loads(block.text)


def test_the_commands_that_a_stranger_needs_stand_on_a_page() -> None:
    commands = [command for block in CONSOLE for command in block.commands]
    shown = {command[1] for command in commands if command[0] == "ouroloop"}
    assert {"init", "run", "resume", "explain", "show", "report", "monitor", "study"} <= shown
