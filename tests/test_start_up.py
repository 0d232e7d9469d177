"""What a command loads before it does anything: modules, not seconds, which a busy machine changes.

`make bench` measures the seconds.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "views"))

# The halves of the standard library that take longer to import than the whole command line takes.
SLOW_STANDARD = {"asyncio", "email", "importlib.metadata", "inspect", "multiprocessing", "unittest"}
LOADED = """
files = [getattr(module, "__file__", None) or "" for module in sys.modules.values()]
# The folder, for some extensions are modules without the name of their package.
found = {file[len(HOME) + 1 :].split("/")[0] for file in files if file.startswith(HOME)}
print("loaded", *sorted(found), "|", *sorted(sys.modules))
"""


def loaded_after(code: str) -> tuple[set[str], set[str]]:
    """(installed packages, all modules) that a new interpreter has loaded after `code`."""
    # Without `site`, so that nothing of an environment's own start-up is counted.
    home = site_packages()
    child = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys\n{code}\nHOME = {home!r}\n{LOADED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{ROOT}:{home}"},
    )
    assert child.returncode == 0, child.stderr
    packages, modules = child.stdout.splitlines()[-1].removeprefix("loaded").split("|")
    return set(packages.split()), set(modules.split())


def site_packages() -> str:
    """Where packages are installed."""
    import numpy

    return str(Path(numpy.__file__).resolve().parents[1])


def command(*arguments: str) -> str:
    return f"""
sys.argv = ["ouroloop", *{arguments!r}]
from ouroloop.loop.__main__ import main
try:
    main()
except SystemExit:
    pass
"""


def test_the_command_line_loads_no_package_and_no_slow_half_of_the_standard_library() -> None:
    packages, modules = loaded_after(command("--help"))
    assert packages == set() and modules & SLOW_STANDARD == set()
    assert "ouroloop.loop.commands.runs" in modules, "the whole command line was made"


def test_the_room_of_monitors_loads_nothing_until_a_name_is_used() -> None:
    packages, _ = loaded_after("import ouroloop.monitors")
    assert packages == set()


@pytest.mark.slow
def test_judging_traces_loads_numpy_and_scipy_alone() -> None:
    packages, _ = loaded_after(
        "from ouroloop.monitors import DecisionRule, from_frame, measure_all, read_traces\n"
        "import numpy, scipy.special, scipy.sparse"
    )
    # What these two load of other packages, where they find them, is not ours.
    needed, _ = loaded_after("import numpy, scipy.special, scipy.sparse")
    assert packages == needed


@pytest.mark.slow
def test_watching_a_run_loads_neither_pandas_nor_recipes_nor_scipy(tmp_path: Path) -> None:
    import fake_run

    run = fake_run.make_run(tmp_path, "watched", rounds=2)
    packages, modules = loaded_after(command("watch", str(run)))
    assert "pyarrow" in packages, "the tables were read"
    assert packages & {"pandas", "pydantic", "scipy", "matplotlib", "yaml", "torch"} == set()
    assert modules & {"ouroloop.loop.config", "importlib.metadata"} == set()
