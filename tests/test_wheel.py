"""The wheel in an environment of its own, with only the core, beside OpenAI's `evals`.

Needs a package index. Without one the test is skipped, except in continuous integration (`CI` is
set), where a wheel that nobody installed must not pass.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

# What the build reads; a copy, so that a stale build/ of the checkout cannot reach the wheel.
FOLDERS = ("loop", "monitors", "evals", "ouroloop", "runs/recipes")
FILES = ("pyproject.toml", "README.md", "LICENSE")

# OpenAI's distribution of this name holds a top-level package `evals`.
NEIGHBOUR = "evals"


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def ouroloop(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the installed command, in a folder where no checkout can be found."""
        command = [str(self.folder / "bin" / "ouroloop"), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=_clean(), capture_output=True, text=True, timeout=300
        )

    def ask(self, code: str) -> str:
        """What a line of Python prints there."""
        done = subprocess.run(
            [self.python, "-c", code],
            cwd=self.folder,
            env=_clean(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _clean() -> dict[str, str]:
    hidden = ("PYTHONPATH", "OUROLOOP_RUNS")
    return {key: value for key, value in os.environ.items() if key not in hidden}


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"pip {' '.join(arguments)}\n{done.stderr[-2000:]}")


def _needed(wanted: list[str]) -> dict[str, Distribution]:
    """The distributions that these requirements name here, and those that they need in turn."""
    found: dict[str, Distribution] = {}
    while wanted:
        requirement = Requirement(wanted.pop())
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not applies or name in found:
            continue
        # What is not here, or only in another version, pip fetches.
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        wanted += found[name].requires or []
    return found


def _link(source: Path, target: Path) -> None:
    """The same file under another name: what replaces or removes one leaves the other as it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _lend(made: Installed, wanted: list[str]) -> None:
    """Put what pip would download and unpack into the environment, from this one.

    A minute of work for it otherwise. It still decides: what is missing or too old it installs.
    """
    (packages,) = made.folder.glob("lib/python*/site-packages")
    for lent in _needed(wanted).values():
        for file in set(lent.files or ()):
            source = Path(str(lent.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                _link(source, packages / file)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel, then install the neighbour and it."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, source / file)
    wheels = tmp_path_factory.mktemp("wheels")
    _pip("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    folder = tmp_path_factory.mktemp("environment")
    made = Installed(folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    try:
        # The neighbour without its dependencies: what it imports is not the question here.
        _pip("--python", made.python, "install", "-q", "--no-compile", "--no-deps", NEIGHBOUR)
        _lend(made, tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
        _pip("--python", made.python, "install", "-q", "--no-compile", str(wheel))
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no package index: {str(error).splitlines()[-1]}")
    return made


def _traces(folder: Path, right: float, number: int) -> Path:
    """A round of 20 problems with 4 samples each."""
    rng = random.Random(number)
    rows = []
    for problem in range(20):
        for _ in range(4):
            text = f"{problem} + 1 = {problem + 1}\nThe answer is {problem + 1}."
            row = {"problem": str(problem), "text": text, "correct": rng.random() < right}
            rows.append(json.dumps(row))
    path = folder / f"round{number}.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_no_file_of_the_neighbour_is_ours_and_everything_of_ours_has_one_name(
    installed: Installed,
) -> None:
    code = (
        "import json; from importlib.metadata import files;"
        "print(json.dumps([[str(f) for f in files(d)] for d in ('evals', 'ouroloop')]))"
    )
    theirs, ours = json.loads(installed.ask(code))
    assert "evals/__init__.py" in theirs
    assert set(theirs).isdisjoint(ours)
    tops = {Path(name).parts[0] for name in ours}
    assert {top for top in tops if ".dist-info" not in top and top != ".."} == {"ouroloop"}


def test_the_core_is_what_is_installed_and_the_monitors_can_be_imported(
    installed: Installed,
) -> None:
    code = (
        "import ouroloop.monitors, ouroloop.evals, ouroloop.loop, importlib.util as u;"
        "print([m for m in ('torch', 'mlflow', 'jinja2', 'pandas') if u.find_spec(m)])"
    )
    assert installed.ask(code) == "[]"


def test_help_monitor_plan_doctor_and_schema_work_with_the_core_alone(installed: Installed) -> None:
    assert installed.ouroloop("--help").returncode == 0
    paths = [str(_traces(installed.folder, right, n)) for n, right in enumerate((0.9, 0.2))]
    judged = installed.ouroloop("monitor", *paths, "--json")
    assert judged.returncode in (0, 3), judged.stderr
    assert [r["action"] != "continue" for r in json.loads(judged.stdout)["rounds"]] == [False, True]
    planned = installed.ouroloop("monitor", "--plan", "20", "4")
    assert planned.returncode == 0 and "What cannot be seen" in planned.stdout, planned.stderr
    doctor = installed.ouroloop("doctor", "--json")
    assert doctor.returncode == 0 and json.loads(doctor.stdout)["ok"], doctor.stdout
    schema = installed.ouroloop("schema")
    assert schema.returncode == 0 and "properties" in json.loads(schema.stdout), schema.stderr


def test_every_packaged_recipe_that_needs_no_data_of_its_own_resolves_by_its_name(
    installed: Installed,
) -> None:
    names = sorted(path.stem for path in (ROOT / "runs" / "recipes").glob("*.yaml"))
    # These read files that others made, or need what an extra brings.
    outside = ("gsm8k", "gsm8k_24gb", "demo_real", "ray", "servers")
    own = [name for name in names if not name.endswith("_hf") and name not in outside]
    code = (
        "from pathlib import Path;"
        "from ouroloop.loop.recipes.packaged import find_recipe;"
        "from ouroloop.loop.recipes.recipe_file import load_recipe;"
        "from ouroloop.loop.setup import prepare;"
        f"[prepare(load_recipe(find_recipe(Path(name)))) for name in {own}]; print('all')"
    )
    assert installed.ask(code) == "all"


def test_the_launchers_configs_come_along(installed: Installed) -> None:
    code = "from ouroloop.loop.objectives.launcher import config_names; print(config_names())"
    there = sorted(path.stem for path in (ROOT / "runs/recipes/accelerate").glob("*.yaml"))
    assert there and installed.ask(code) == str(there)


def test_a_command_beyond_the_core_names_its_extra_in_one_sentence(installed: Installed) -> None:
    for arguments, extra in (
        (("report", "demo"), "report"),
        (("run", "demo"), "run"),
        (("ui",), "mlflow"),
    ):
        refused = installed.ouroloop(*arguments)
        assert refused.returncode == 2
        assert refused.stderr.rstrip().endswith(f"pip install 'ouroloop[{extra}]'")
        assert len(refused.stderr.splitlines()) == 1


def test_a_recipe_that_does_not_exist_lists_those_that_do(installed: Installed) -> None:
    refused = installed.ouroloop("plan", "demoo")
    assert refused.returncode == 2
    assert "demo, demo_real, exposure_bias" in refused.stderr
