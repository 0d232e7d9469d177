"""tools/form.py counts what its docstring says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import form  # noqa: E402

SOURCE = '''"""A docstring."""

# a comment
x = 1 if y else 2  # and another
"""What x is."""


def f():
    """Nothing."""
    return "#"
'''


def test_code_lines_are_neither_comments_nor_docstrings() -> None:
    found = form.measure(SOURCE, "a.py")
    assert (found.num_lines, found.num_code_lines, found.num_comment_lines) == (7, 3, 2)
    assert found.num_conditionals == 1
    assert found.conditionals_per_1000 == pytest.approx(1000 / 3)
    assert found.comment_percent == pytest.approx(100 * 2 / 7)


def test_nodes_are_those_of_the_syntax_tree() -> None:
    # Module, Assign, Name, Store, Constant
    assert form.measure("x = 1\n", "a.py").nodes_per_line == 5


def test_a_string_over_several_lines_is_code_where_it_is_used() -> None:
    assert form.measure('x = """a\nb\nc"""\n', "a.py").num_code_lines == 3


def test_what_is_too_long_is_named_with_its_place() -> None:
    lines = ["@cache", "def exactly():", *["    x = 1"] * 49]
    assert form.measure("\n".join(lines), "a.py").long_functions == []
    found = form.measure("\n".join([*lines, "    x = 1"]), "a.py")
    assert found.long_functions == ["a.py:2: exactly: 51 lines"]
    assert form.measure(f"y = '{'a' * 94}'\n", "a.py").wide_lines == []
    assert form.measure(f"y = '{'a' * 95}'\n", "a.py").wide_lines == ["a.py:1: 101 columns"]
    assert form.measure("x = 1\n" * 350, "a.py").long_files == []
    assert form.measure("x = 1\n" * 351, "a.py").long_files == ["a.py: 351 lines"]


@pytest.mark.slow
@pytest.mark.parametrize(("source", "code"), [("# why\nx = 1\n", 0), ("x = 1\n", 1)])
def test_the_exit_code_tells_whether_a_limit_is_broken(
    tmp_path: Path, source: str, code: int
) -> None:
    (tmp_path / "a.py").write_text(source)
    command = [sys.executable, str(ROOT / "tools" / "form.py"), str(tmp_path), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code
    assert ("comments %" in done.stderr) == bool(code)


def test_a_wide_line_beside_the_rooms_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Comments enough for the rooms; the folders beside them need none.
    for folder in (*form.ROOMS, *form.BESIDE):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.py").write_text("# why\nx = 1\n")
    monkeypatch.setattr(form, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["form.py", "--check"])
    assert form.main() == 0
    (tmp_path / "tests" / "a.py").write_text(f"y = '{'a' * 95}'\n")
    assert form.main() == 1
    assert "tests/a.py:1: 101 columns" in capsys.readouterr().out
