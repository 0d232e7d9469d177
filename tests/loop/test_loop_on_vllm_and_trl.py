"""The real thing on the embedded model.

Real vLLM, real TRL, real MLflow, through the command line.
"""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import test_one_meaning_per_number as one_meaning
import yaml
from real_data import GSM8K

from ouroloop.loop.__main__ import main
from ouroloop.loop.engines.served_weights import Change
from ouroloop.loop.folder.ledger import JOURNAL
from ouroloop.loop.folder.lines import read_lines
from ouroloop.loop.folder.store import read_json, read_rows
from ouroloop.loop.round import Round
from ouroloop.loop.views.reader import read_run

pytestmark = pytest.mark.slow

RECIPE = {
    "name": "real",
    "rounds": 2,
    "task": {"kind": "arithmetic"},
    "sampling": {
        "problems_per_round": 40,
        "samples_per_problem": 4,
        "temperatures": [0.8, 1.0],
        "max_tokens": 80,
    },
    "filters": {"steps": True},
    "sft": {"learning_rate": 5e-4, "num_train_epochs": 1, "per_device_train_batch_size": 16},
    "probe": {
        "problems": 30,
        "family_problems": 4,
        "samples": 8,
        "baseline_samples": 16,
        "critiques": 20,
    },
}
# Of a run that is asked for nothing but that it goes on.
FEW = {
    "problems": 8,
    "family_problems": 1,
    "samples": 2,
    "baseline_samples": 2,
    "critiques": 0,
    "pass_at": 2,
    "majority": 2,
}


def written(folder, **changes):
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    code = main(["run", str(written(root)), "--runs", str(root / "out")])
    return code, root / "out" / "real"


def test_two_rounds_on_the_real_libraries_end_well(finished):
    code, path = finished
    run = read_run(path)
    assert code == 0 and [r.number for r in run.rounds] == [0, 1, 2] and run.state == "finished"
    for number in (1, 2):
        facts = run.rounds[number].train
        assert facts["status"] == "trained" and Change(**facts["weight_sync"]).has_power
        assert facts["loss"][-1]["loss"] < 3
        verdicts = read_rows(path / f"rounds/{number:03d}/verdicts.parquet")
        assert len(verdicts) == 160 and 10 < sum(v["kept"] for v in verdicts) < 160


def test_samples_come_from_the_round_befores_weights(finished):
    _, path = finished
    for number, version in ((1, "arithmetic/base"), (2, "001/checkpoint")):
        lines = (path / f"rounds/{number:03d}/samples.jsonl").read_text().splitlines()
        assert {json.loads(line)["draft"]["weight_version"] for line in lines} == {version}


def test_the_embedded_model_writes_critiques_and_revisions_that_can_be_read(finished):
    _, path = finished
    chains = [
        json.loads(line) for line in (path / "rounds/001/samples.jsonl").read_text().splitlines()
    ]
    verdicts = Counter(c["approved"] for chain in chains for c in chain["critiques"])
    assert verdicts[True] > 10 and verdicts[False] > 10 and verdicts[None] < 0.2 * len(chains)
    assert any(chain["revisions"] for chain in chains)


def test_mlflow_holds_the_run_and_a_child_per_round(finished):
    _, path = finished
    # The run's end waits ten seconds; a busy machine may need more.
    assert main(["sync", str(path)]) == 0
    assert read_json(path / "tracking.json")
    # MLflow's own table of runs, read without another start of MLflow.
    with contextlib.closing(sqlite3.connect(path.parent / "mlflow.db")) as database:
        names = [name for (name,) in database.execute("select name from runs")]
    assert len(names) == 4 and "real" in names


def test_the_report_of_a_real_run_is_one_page(finished):
    _, path = finished
    assert main(["report", str(path)]) == 0
    page = (path / "report.html").read_text()
    assert page.count("<svg") >= 5 and "http://" not in page.replace("http://www.w3.org", "")


def test_a_real_run_shows_one_value_per_number(finished, tmp_path):
    one_meaning.check_everything(read_run(finished[1]), tmp_path)


def test_a_run_killed_without_warning_is_finished_by_resume_and_leaves_no_child_behind(tmp_path):
    root = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "ouroloop.loop",
        "run",
        # One round: it is killed in its sampling, and only what follows in it is of interest.
        str(written(tmp_path, rounds=1, probe=FEW, tracking={"mlflow": False})),
        "--runs",
        str(root),
    ]
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = root / "real/rounds/001" / JOURNAL
    # Generous: vLLM starts in half a minute, and in several on a machine that is busy otherwise.
    for _ in range(6000):
        if journal.exists() and journal.read_bytes().count(b"\n") > 20:
            break
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [json.loads(line)["answer"] for line in read_lines(journal).good]
    for _ in range(100):
        if not _members(process.pid):
            break
        time.sleep(0.1)
    assert not _members(process.pid), "a child outlived the run"
    assert main(["resume", str(root / "real"), "--runs", str(root)]) == 0
    assert read_run(root / "real").state == "finished"
    run = read_run(root / "real")
    started = [event for event in run.events if event["event"] == "round_started"]
    assert started[-1]["answers"] == len(before) > 20, "what was there is not sampled again"
    samples = Round.of(root / "real", 1).samples
    drafts = {sample.draft.request_id: sample.draft.token_ids for sample in samples}
    kept = [answer for answer in before if "/draft/" in answer["request_id"]]
    assert all(drafts[answer["request_id"]] == tuple(answer["token_ids"]) for answer in kept)
    assert kept and len(drafts) == len(samples) == 160


@pytest.mark.long
@pytest.mark.skipif(
    not GSM8K.is_dir(), reason=f"real data not found in {GSM8K.parent}: set OUROLOOP_DATA"
)
def test_gsm8k_with_the_small_model_runs_through_and_says_that_nothing_passes(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("OUROLOOP_DATA", str(GSM8K.parent))
    smaller = ["--set", "tracking.mlflow=false", "--set", "sampling.problems_per_round=20"]
    code = main(["run", "runs/recipes/gsm8k.yaml", "--runs", str(tmp_path), *smaller])
    run = read_run(tmp_path / "gsm8k")
    assert code == 3 and run.rounds[-1].action == "halt"
    assert "nothing passes: 0 of" in " ".join(run.rounds[-1].decision["reasons"])
    assert "nothing passes" in capsys.readouterr().out
    assert run.rounds[0].score("pass@1")[0] < 0.05


def _members(session):
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(stat.parent.name)
    return found
