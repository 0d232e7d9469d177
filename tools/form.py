"""Measure how dense the code's ordinary page is, and refuse what is denser than the house allows.

    python tools/form.py                    a table of loop/, monitors/ and evals/
    python tools/form.py tests tools        the same of other folders or files
    python tools/form.py --check            exit 1 when a measure is beyond its limit; without
                                            folders, also on a wide line anywhere in the repository
    python tools/form.py --list             also name every long line, function and file

A *line* is a non-blank line. A *code line* is a line that holds at least one token other than a
comment or a docstring (a string that stands alone as a statement). The measures:

nodes       Syntax nodes (`ast.walk`, every node counted) per code line.
conditional Conditional expressions (`a if b else c`) per 1,000 code lines.
wide        Lines of more than 100 columns.
comments    Lines that hold a comment, in % of all lines. Docstrings are not comments.
functions   Functions of more than 50 lines, from `def` (without decorators) to the last line.
files       Files of more than 350 lines, blank ones included.

The limits are those of docs/decisions and CONTRIBUTING.md; the first two are what comparable
projects show when they are measured in the same way (6.2 to 9.0 nodes, 6.5 to 19 conditionals).
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("loop", "monitors", "evals")
BESIDE = ("runs/experiments", "tests", "tools")
"""What the other limits are not meant for; no line there may be wide either."""

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 350

# Tokens that put nothing on a line: a line of these alone is blank, a comment or a continuation.
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass
class Form:
    """Counts of one file, or of several added up."""

    num_files: int = 0
    num_lines: int = 0
    num_code_lines: int = 0
    num_comment_lines: int = 0
    num_nodes: int = 0
    num_conditionals: int = 0
    wide_lines: list[str] = field(default_factory=list)
    long_functions: list[str] = field(default_factory=list)
    long_files: list[str] = field(default_factory=list)

    def add(self, other: Form) -> None:
        """Add another file's counts to these."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def nodes_per_line(self) -> float:
        """Syntax nodes per code line."""
        return self.num_nodes / max(1, self.num_code_lines)

    @property
    def conditionals_per_1000(self) -> float:
        """Conditional expressions per 1,000 code lines."""
        return 1000 * self.num_conditionals / max(1, self.num_code_lines)

    @property
    def comment_percent(self) -> float:
        """Lines that hold a comment, in % of all non-blank lines."""
        return 100 * self.num_comment_lines / max(1, self.num_lines)


@dataclass(frozen=True)
class Measure:
    """A column of the table, and the limit that `--check` compares it with."""

    head: str
    read: Callable[[Form], float]
    limit: float
    digits: int = 0
    is_floor: bool = False
    """Whether the limit is the least allowed, not the most."""

    def is_beyond(self, form: Form) -> bool:
        """Whether a form breaks the limit."""
        value = self.read(form)
        return value < self.limit if self.is_floor else value > self.limit


MEASURES = (
    Measure("nodes", lambda form: form.nodes_per_line, 9.5, digits=1),
    Measure("conditional", lambda form: form.conditionals_per_1000, 20, digits=1),
    Measure("wide", lambda form: len(form.wide_lines), 0),
    Measure("comments %", lambda form: form.comment_percent, 4, digits=1, is_floor=True),
    Measure("functions", lambda form: len(form.long_functions), 0),
    Measure("files", lambda form: len(form.long_files), 0),
)


def measure(source: str, name: str) -> Form:
    """Count one file.

    Args:
        source: Its text.
        name: How its lines are named in the lists.

    Raises:
        SyntaxError: the text is not Python.
    """
    lines = source.splitlines()
    tree = ast.parse(source)
    docstring_lines = set(_docstring_lines(tree))
    code_lines, comment_lines = _token_lines(source)
    form = Form(
        num_files=1,
        num_lines=sum(bool(line.strip()) for line in lines),
        num_code_lines=len(code_lines - docstring_lines),
        num_comment_lines=len(comment_lines),
    )
    # Columns are counted on every line, comments and docstrings too: all of them are read.
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_COLUMNS:
            form.wide_lines.append(f"{name}:{number}: {len(line)} columns")
    # Contexts and operators are nodes as well: one rule that anybody can repeat.
    for node in ast.walk(tree):
        form.num_nodes += 1
        form.num_conditionals += isinstance(node, ast.IfExp)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                form.long_functions.append(f"{name}:{node.lineno}: {node.name}: {length} lines")
    if len(lines) > MAX_FILE_LINES:
        form.long_files.append(f"{name}: {len(lines)} lines")
    return form


def _docstring_lines(tree: ast.AST) -> Iterator[int]:
    """Lines of every string that stands alone as a statement, a field's docstring included."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _token_lines(source: str) -> tuple[set[int], set[int]]:
    """(lines with code, lines with a comment)."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    return code, comments


def python_files(path: Path) -> list[Path]:
    """A file itself, or every Python file under a folder."""
    if path.is_file():
        return [path]
    return sorted(path.rglob("*.py"))


def measure_all(paths: Iterable[Path]) -> dict[str, Form]:
    """A form per path, and their sum as `all`."""
    forms: dict[str, Form] = {}
    total = Form()
    for path in paths:
        form = Form()
        for file in python_files(path):
            form.add(measure(file.read_text(encoding="utf-8"), _short(file)))
        forms[_short(path)] = form
        total.add(form)
    return {**forms, "all": total}


def table(forms: dict[str, Form]) -> str:
    """The measures of every path, their limits in the last row; `*` marks what is beyond one."""
    width = max(len("limit"), *(len(name) for name in forms))
    heads = "".join(f"{m.head:>13}" for m in MEASURES)
    out = [f"{'':<{width}}{'files read':>12}{'lines':>8}{heads}"]
    for name, form in forms.items():
        cells = ""
        for m in MEASURES:
            mark = "*" if m.is_beyond(form) else " "
            cells += f"{m.read(form):>12.{m.digits}f}{mark}"
        out.append(f"{name:<{width}}{form.num_files:>12}{form.num_lines:>8}{cells}")
    limits = "".join(f"{('>=' if m.is_floor else '<=') + f' {m.limit:g}':>12} " for m in MEASURES)
    out.append(f"{'limit':<{width}}{'':>20}{limits}")
    return "\n".join(out)


def main() -> int:
    """Print the table; with `--check` the exit code is 1 when the sum is beyond a limit."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("paths", nargs="*", type=Path, help="default: loop monitors evals")
    options.add_argument("--check", action="store_true", help="exit 1 beyond a limit")
    options.add_argument("--list", action="store_true", help="name what is too long")
    chosen = options.parse_args()
    paths = [path.resolve() for path in chosen.paths] or [ROOT / room for room in ROOMS]
    if missing := [path for path in paths if not path.exists()]:
        options.error(f"{missing[0]}: no such file or folder")
    forms = measure_all(paths)
    print(table(forms))
    beyond = [m.head for m in MEASURES if m.is_beyond(forms["all"])]
    total = forms["all"]
    wide = list(total.wide_lines)
    if not chosen.paths:
        wide += measure_all(ROOT / folder for folder in BESIDE)["all"].wide_lines
        if wide and "wide" not in beyond:
            beyond.append("wide")
    if chosen.list or (chosen.check and beyond):
        print(*wide, *total.long_functions, *total.long_files, sep="\n")
    if chosen.check and beyond:
        print(f"form: beyond the limit: {', '.join(beyond)}", file=sys.stderr)
        return 1
    return 0


def _short(path: Path) -> str:
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).as_posix()
    return str(path)


if __name__ == "__main__":
    raise SystemExit(main())
