"""`ouroloop bench alarms` from the command line to the files: small, with the real detectors."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from ouroloop import __version__
from ouroloop.loop.__main__ import main
from ouroloop.loop.alarms import benchmark, files, real
from ouroloop.loop.errors import DataError
from ouroloop.monitors import from_frame
from ouroloop.monitors.bench.alarms import lock
from ouroloop.monitors.bench.alarms.simulation import OUTCOMES, Size

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
OWN = '''
class Mine:
    """Alarmed by wrong answers."""

    name = "mine"

    def score(self, history):
        return 1 - float(history.now.right_P.mean())
'''


def few_runs():
    """Four healthy runs to choose thresholds, one healthy and one collapsing to judge them."""
    every = lock.keys()
    of_split = {split: [key for key in every if key.split == split] for split in lock.Split}
    calibration = of_split[lock.Split.CALIBRATION][:4]
    judged = of_split[lock.Split.EVALUATION]
    fast = next(key for key in judged if key.regime == "drift, fast")
    return (*calibration, judged[0], fast)


@pytest.fixture
def small(monkeypatch):
    """A benchmark of six runs on forty problems: everything else is as shipped."""
    chosen = few_runs()
    monkeypatch.setattr(lock, "keys", lambda seeds=4: chosen)
    monkeypatch.setitem(benchmark.SIZES, "120x8", Size(40, 8, 32))
    return chosen


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of the first command that made one."""
    return tmp_path_factory.mktemp("kept") / "data"


@pytest.fixture
def data(small, kept, tmp_path):
    """A folder with the runs of the small benchmark, and CUSUM's table."""
    if not kept.exists():
        assert run("--data", kept, "--only", "cusum") == 0
    return shutil.copytree(kept, tmp_path / "data")


def run(*arguments):
    return main(["bench", "alarms", *map(str, arguments)])


def test_the_command_leaves_traces_truth_and_one_table(small, tmp_path, capsys):
    detector = tmp_path / "own.py"
    detector.write_text(OWN)
    data, out = tmp_path / "data", tmp_path / "out"
    options = (
        "--data",
        data,
        "--out",
        out,
        "--only",
        "watch",
        "cusum",
        "--add",
        f"{detector}:Mine",
    )
    assert run(*options, "--seeds", "2") == 0
    printed = capsys.readouterr().out
    assert "4 healthy ones to choose thresholds, 1 healthy and 1 collapsing" in printed
    rows = list(csv.DictReader((out / "alarms.csv").open()))
    assert {row["detector"] for row in rows} == {"WATCH evidence", "CUSUM", "mine"}
    # Four healthy runs allow 20 %, and promise nothing at 5 %: no threshold, and no alarm.
    assert {row["threshold"] for row in rows if row["budget"] == "0.05"} == {""}
    assert {row["threshold"] == "" for row in rows if row["budget"] == "0.2"} == {False}
    delays = {
        row["detector"]: row["delay"]
        for row in rows
        if (row["budget"], row["outcome"], row["regime"]) == ("0.2", "accuracy", "drift, fast")
    }
    assert delays.keys() == {"WATCH evidence", "CUSUM", "mine"} and "" not in delays.values()
    facts = facts_of(data)
    assert {each.run for each in facts} == {key.name for key in small}
    (collapsed,) = (each for each in facts if each.healthy is False)
    assert collapsed.accuracy >= collapsed.onset > 0
    assert len(list((data / "traces").iterdir())) == len(small)
    assert "--seeds 2 --only watch cusum" in (out / "alarms.md").read_text()


def facts_of(data):
    """The lines of runs.parquet."""
    rows = pq.read_table(data / files.RUNS).to_pylist()
    return [SimpleNamespace(**row) for row in rows]


def test_a_run_that_is_there_is_not_made_again_and_gives_the_same_table(data, monkeypatch):
    before = (data / "alarms.csv").read_bytes()
    monkeypatch.setattr(files, "write_samples", lambda *a: pytest.fail("made again"))
    assert run("--data", data, "--only", "cusum") == 0
    assert (data / "alarms.csv").read_bytes() == before


def test_workers_do_not_change_the_scores(data):
    todo = [(data, each.run, ("cusum", "pit-monitor")) for each in facts_of(data)[:4]]
    alone = list(benchmark._map(benchmark.scores_of_run, todo, 1))
    assert list(benchmark._map(benchmark.scores_of_run, todo, 2)) == alone != []


def test_a_runs_file_is_a_frame_that_the_monitors_read(small, data):
    path = files.samples_path(data, small[-1].name)
    table = pq.read_table(path)
    monitor = from_frame(table.filter(pc.less(table["round"], 2)))
    assert [row["round"] for row in monitor.decisions()] == [0, 1]
    assert monitor.rule.main_family == "main"
    # Names are stored once: a sample takes few bytes.
    assert path.stat().st_size < 8 * table.num_rows


def test_a_folder_of_another_simulation_is_refused(data, capsys):
    known = json.loads((data / "lock.json").read_text())
    assert known["version"] == lock.VERSION and known["size"] == "120x8"
    (data / "lock.json").write_text(json.dumps({**known, "simulation": "0" * 16}))
    assert run("--data", data, "--only", "cusum") == 2
    assert "were made with simulation 0000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--no-simulation",), "expected --runs"),
        (("--healthy", "x*"), "expected --runs"),
        (("--only", "cumsum"), "no such detector"),
        (("--add", "nowhere_at_all:X"), "cannot be imported"),
        (("--add", "collections:Counter"), "has no 'name'"),
        (("--add", "ouroloop.monitors.bench.alarms.detectors.paired:Cusum"), "are called 'CUSUM'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    small, tmp_path, capsys, options, said
):
    assert run("--data", tmp_path / "new", *options) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_real_runs_are_shown_beside_the_simulated_ones(data, arms, tmp_path):
    runs = arms[0].parent
    options = ("--only", "cusum", "--runs", runs, "--healthy", "guarded", "--jobs", "1")
    assert run("--data", data, *options) == 0
    page = (data / "alarms.md").read_text()
    assert "real runs with an alarm" in page and "| unguarded |" in page
    found = {each.run: each for each in facts_of(data) if each.kind == real.REAL}
    assert (found["guarded"].healthy, found["unguarded"].healthy) == (True, None)
    assert {getattr(found["unguarded"], name) for name in OUTCOMES} == {None}
    samples = files.read_samples(files.samples_path(data, "guarded"))
    assert set(samples["family"]) >= {"main"} and len(set(samples["round"])) > 1
    # Without simulated runs nothing is calibrated; what has a limit of its own is shown.
    own = ("--only", "watch-shipped", "--runs", runs)
    assert run("--data", tmp_path / "only", "--no-simulation", *own) == 0
    alone = (tmp_path / "only" / "alarms.md").read_text()
    assert "## At their own limits" in alone and "| unguarded |" in alone and "5%" not in alone
    with pytest.raises(DataError, match="no run in it"):
        real.run_folders(tmp_path / "only" / "traces")


def test_arms_are_the_names_without_their_seeds():
    names = ("sharpen-3", "sharpen_seed3", "sharpen-s12", "fixed_30", "7", "demo")
    arms = [real._SEED.sub("", name) or name for name in names]
    assert arms[:3] == ["sharpen"] * 3 and arms[4:] == ["7", "demo"]


def test_the_citation_names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__ and cited["license"] == "Apache-2.0"
    assert cited["authors"] == [{"name": "The Ouroloop developers"}]


@pytest.mark.parametrize("option", ["--data", "--out"])
def test_a_file_in_the_place_of_a_folder_is_refused(option, tmp_path, capsys):
    place = tmp_path / "file"
    place.write_text("mine")
    assert main(["bench", "alarms", option, str(place), "--seeds", "1"]) == 2
    assert f"bench alarms {option} {place}: got a file" in capsys.readouterr().err
    assert place.read_text() == "mine"
