"""The import rules, compared with the code.

Who may import whom, what must stay light, what no file may name.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("loop", "monitors", "evals")

FORBIDDEN = {
    "monitors/*": ("ouroloop.loop", "ouroloop.evals"),
    "evals/*": ("ouroloop.loop",),
    "loop/views/*": ("ouroloop.loop.stages",),
    "loop/stages/*": ("ouroloop.loop.views",),
    "*": ("loop", "monitors", "evals", "runs"),
}
"""Files -> what none of them may import."""

ALLOWED_INSIDE = {
    "loop/engines/*": (
        "ouroloop.loop",
        ("ouroloop.loop.engines", "ouroloop.loop.records", "ouroloop.loop.errors"),
    ),
}
"""Files -> (package, the only parts of it that they may import)."""

ONLY_IN = {
    "torch": (
        "loop/objectives/*",
        "loop/callback/*",
        "loop/engines/*_local.py",
        "loop/models/convert.py",
        "evals/worlds/*/pretrain*.py",
    ),
    "transformers": (
        "loop/objectives/*",
        "loop/callback/*",
        "loop/engines/*_local.py",
        "loop/models/convert.py",
        "evals/worlds/*/pretrain*.py",
    ),
    "trl": ("loop/objectives/*",),
    "vllm": ("loop/engines/*",),
    "mlflow": ("loop/trackers/*",),
    "wandb": ("loop/trackers/wandb.py",),
    "trackio": ("loop/trackers/trackio.py",),
    "openai": ("loop/engines/remote*.py",),
}
"""Library -> the only files that may import it."""

MONITORS_MAY_USE = {"numpy", "scipy", "sklearn", "ouroloop"} | set(sys.stdlib_module_names)

HEAVY = {
    "torch",
    "transformers",
    "vllm",
    "mlflow",
    "wandb",
    "trackio",
    "trl",
    "datasets",
    "peft",
    "accelerate",
    "ray",
    "matplotlib",
    "pandas",
    "openai",
}

OUTSIDE = {
    "an absolute path of one machine": re.compile(
        r"(?<![\w.$~}>/:-])/(?:home|root|Users|work|workspace|farm|opt|mnt|srv|tmp)/\w"
    ),
    "a registry's host": re.compile(
        r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|--(?:extra-)?index-url["
        r" =]\S*//"
    ),
}


IMPORTERS = ("__import__", "import_module", "importorskip")


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements inside, at any depth."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


def imports(source: str, path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, at its top, inside functions.

    Or by name at run time.
    """
    package = ["ouroloop", *path.removesuffix(".py").split("/")[:-1]]
    tree = ast.parse(source)
    # Most of a file's nodes are parts of expressions, and few files import by a name in one.
    by_name = any(name in source for name in IMPORTERS)
    for node in ast.walk(tree) if by_name else statements(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parts, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            if called in IMPORTERS:
                yield node.lineno, str(node.args[0].value)


def inside(name: str, package: str) -> bool:
    """Whether a dotted name is the package or lies in it."""
    return name == package or name.startswith(package + ".")


def breaches(source: str, path: str) -> list[str]:
    """The import rules that one file breaks, as `path:line imports name`."""
    found = []
    for line, name in imports(source, path):
        top = name.split(".")[0]
        wrong = any(
            fnmatch(path, files) and any(inside(name, room) for room in rooms)
            for files, rooms in FORBIDDEN.items()
        )
        for files, (package, parts) in ALLOWED_INSIDE.items():
            wrong |= (
                fnmatch(path, files)
                and inside(name, package)
                and not any(inside(name, part) for part in parts)
            )
        wrong |= top in ONLY_IN and not any(fnmatch(path, files) for files in ONLY_IN[top])
        wrong |= path.startswith("monitors/") and top not in MONITORS_MAY_USE
        if wrong:
            found.append(f"{path}:{line} imports {name}")
    return found


def python_files() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def committed_files() -> list[Path]:
    """Everything under version control."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a checkout: {listed.stderr.strip()}")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_breaks_the_import_rules() -> None:
    files = python_files()
    assert len(files) > 10
    assert [
        breach
        for path in files
        for breach in breaches(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("monitors/x.py", "from ouroloop.loop.records import Draft"),
        ("monitors/x.py", "import ouroloop.evals"),
        ("monitors/x.py", "def f():\n    import torch"),
        ("monitors/x.py", "import pandas"),
        ("evals/x.py", "def f():\n    from ouroloop.loop import errors"),
        ("evals/worlds/arithmetic/x.py", "import loop.records"),
        ("evals/worlds/arithmetic/world.py", "import torch"),
        ("loop/views/x.py", "from ouroloop.loop.stages.refine import collect"),
        ("loop/views/x.py", "from ..stages import refine"),
        ("loop/views/x.py", "from ouroloop.loop import stages"),
        ("loop/views/report.py", "import mlflow"),
        ("loop/stages/x.py", "import ouroloop.loop.views"),
        ("loop/stages/refine.py", "from transformers import AutoTokenizer"),
        ("loop/engines/x.py", "from ouroloop.loop.config import Recipe"),
        ("loop/engines/x.py", "from ouroloop.loop.folder import store"),
        ("loop/engines/ray_pool.py", "import torch"),
        ("loop/controller.py", "import importlib\nimportlib.import_module('trl')"),
        ("loop/controller.py", "if True:\n    from vllm import LLM"),
        ("loop/experiments/x.py", "from runs.experiments.rft import study"),
    ],
)
def test_the_rules_catch_a_breach(path: str, source: str) -> None:
    assert len(breaches(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "monitors/x.py",
            (
                "import math\nimport numpy as np\nfrom scipy.stats import beta\nfrom"
                " ouroloop.monitors.base import Reading"
            ),
        ),
        (
            "evals/worlds/arithmetic/pretrain.py",
            "import torch\nfrom transformers import LlamaConfig",
        ),
        (
            "loop/views/x.py",
            "from ouroloop.loop.records import Draft\nfrom ouroloop.monitors.base import Reading",
        ),
        ("loop/trackers/mlflow.py", "import mlflow"),
        (
            "loop/engines/vllm_local.py",
            "from ouroloop.loop.records import Draft\nfrom . import base\nimport vllm, torch",
        ),
        ("loop/objectives/sft.py", "import torch, transformers, trl"),
    ],
)
def test_the_rules_let_what_is_allowed_pass(path: str, source: str) -> None:
    assert breaches(source, path) == []


def heavy_after(code: str) -> set[str]:
    """The heavy libraries that a new interpreter has loaded after `code`."""
    tail = f"\nimport sys\nprint('loaded', *sorted({HEAVY!r} & set(sys.modules)))"
    child = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return set(child.stdout.splitlines()[-1].split()[1:])


def test_importing_the_rooms_loads_nothing_heavy() -> None:
    assert heavy_after("import ouroloop.loop, ouroloop.monitors, ouroloop.evals") == set()


@pytest.mark.slow
def test_importing_every_monitor_loads_nothing_heavy() -> None:
    paths = sorted(path.relative_to(ROOT) for path in (ROOT / "monitors").rglob("*.py"))
    names = [".".join(("ouroloop", *path.with_suffix("").parts)) for path in paths]
    assert heavy_after("import " + ", ".join(names)) == set()


def test_asking_for_help_loads_nothing_heavy() -> None:
    code = """
import sys
sys.argv = ['ouroloop', '--help']
from ouroloop.loop.__main__ import main
try:
    main()
except SystemExit:
    pass
"""
    assert heavy_after(code) == set()


def test_no_committed_file_names_anything_outside_the_project() -> None:
    found = []
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode("utf-8", errors="replace")
        # Nearly no file has any; line by line it takes three times as long.
        if not any(form.search(text) for form in OUTSIDE.values()):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            found += [
                f"{path.relative_to(ROOT)}:{number}: {what}: {line.strip()}"
                for what, form in OUTSIDE.items()
                if form.search(line)
            ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "open('/" + "work/data/x')",
        "cd /" + "home/me/project",
        "https://py" + "pi.org/simple",
        "pip install --extra-index-" + "url https://x",
    ],
)
def test_naming_something_outside_is_caught(line: str) -> None:
    assert any(form.search(line) for form in OUTSIDE.values())


DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs/tour.md", "docs/glossary.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(
        r"(?:`|\]\()"  # in code quotes, or as the address of a link
        r"((?:loop|monitors|evals|tests|tools|requirements|docs|runs/recipes)/[\w./-]*\w)(?=[`)])",
        text,
    )
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def examples() -> Iterator[Any]:
    """(document, import line) of every Python example in the documentation."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(
            r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S
        ):
            lines = re.findall(r"^(?:from|import) .*$", block, re.M)
            for line in lines:
                # The callback's module imports torch and transformers.
                marks = [pytest.mark.slow] if "callback" in line else []
                yield pytest.param(path.relative_to(ROOT).as_posix(), line, marks=marks)


@pytest.mark.parametrize(("document", "line"), list(examples()))
def test_every_import_of_an_example_in_the_documentation_names_what_exists(
    document: str, line: str
) -> None:
    (statement,) = ast.parse(line).body
    if isinstance(statement, ast.Import):
        assert all(importlib.util.find_spec(alias.name) for alias in statement.names), line
        return
    assert isinstance(statement, ast.ImportFrom) and statement.module, f"{document}: {line}"
    if statement.module.split(".")[0] != "ouroloop":
        return
    module = importlib.import_module(statement.module)
    missing = [alias.name for alias in statement.names if not hasattr(module, alias.name)]
    assert missing == [], f"{document}: {line}"
