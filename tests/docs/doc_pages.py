"""The fenced blocks of the documentation's pages, and what their marks say.

A mark is a comment of HTML on the line before a block, which no reader sees:

    <!-- run -->             its commands, or its Python, are run
    <!-- file: NAME -->      it is the file NAME, for the blocks after it; a .yaml file is a recipe
    <!-- recipe -->          it is a recipe, or a part of one, whose files are the reader's
    <!-- not run: REASON --> what it needs cannot be had in a test
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# What a command printed, or what a trainer will print: nothing to run.
OUTPUT = "text"
FENCE = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Mark(StrEnum):
    """What is done with a block."""

    RUN = "run"
    FILE = "file"
    RECIPE = "recipe"
    NOT_RUN = "not run"
    MISSING = "no mark"


@dataclass(frozen=True)
class Block:
    """One fenced block. about: the file's name, or the reason why it is not run."""

    page: str
    line: int
    language: str
    text: str
    mark: Mark
    about: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Each command of a console block as words; comments are left out."""
        joined = self.text.replace("\\\n", " ")
        lines = (line.removeprefix("$ ") for line in joined.splitlines())
        words = (shlex.split(line, comments=True) for line in lines)
        return [command for command in words if command]


def pages() -> list[Path]:
    """Every page of docs/ but the decisions, in the order in which blocks may rest on each other.

    The tutorial makes the files and runs that the how-to pages go on with.
    """
    folders = ("tutorial", "how-to", ".")
    found = [page for folder in folders for page in sorted((DOCS / folder).glob("*.md"))]
    order = ["model.md", "problems.md", "principles.md"]
    return sorted(found, key=lambda page: order.index(page.name) if page.name in order else 9)


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, top to bottom."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        kind, _, about = (found["mark"] or "").partition(": ")
        known = {mark.value: mark for mark in Mark if mark is not Mark.MISSING}
        yield Block(
            page=page.relative_to(ROOT).as_posix(),
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=found["text"],
            mark=known.get(kind, Mark.MISSING),
            about=about.strip(),
        )


ALL = [block for page in pages() for block in blocks(page)]
