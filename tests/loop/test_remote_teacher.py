"""A round whose teacher is a server: what it drafts is learnt in the student's tokens.

A server that is lost ends a run that can go on.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml
from scripted_world import BY_QUESTION, Model, carry, recipe

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from openai_server import Server, serving

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.__main__ import main
from ouroloop.loop.engines import children, remote
from ouroloop.loop.engines.pacing import Limits
from ouroloop.loop.engines.scripted import STOP_TOKEN
from ouroloop.loop.errors import EngineError
from ouroloop.loop.folder.ledger import JOURNAL
from ouroloop.loop.folder.store import read_json, read_rows
from ouroloop.loop.round import Round
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report

pytestmark = pytest.mark.slow

SMALL = {
    "problems": 8,
    "family_problems": 1,
    "samples": 2,
    "baseline_samples": 2,
    "critiques": 0,
    "pass_at": 2,
    "majority": 2,
}
ONE = {
    "rounds": 1,
    "probe": SMALL,
    "sampling": {"student": False, "problems_per_round": 12, "samples_per_problem": 2},
}


def right(body):
    """The small teacher: every question answered rightly."""
    question = body["prompt"].removeprefix("Explain.\n").split("\nA:\n")[0]
    if "\nC:\n" in body["prompt"]:
        return "right", "stop"
    item = BY_QUESTION[question]
    return world.demonstrate(item, None if item.family in world.SKILLS else "column"), "stop"


def examples_of(path):
    return read_rows(path / "rounds" / "001" / "examples.parquet")


def test_what_a_server_drafts_is_learnt_from_and_its_critiques_have_no_probability(tmp_path):
    server = Server(right)
    with serving(server) as url:
        _, path = carry(
            tmp_path,
            Model(),
            recipe(
                **ONE, teachers=[f"{url}#teacher"], filters={"critic": True, "duplicates": "none"}
            ),
        )
        assert read_json(path / "recipe.json")["teachers"] == [f"{url}#teacher"]
    rows = examples_of(path)
    assert len(rows) == 24 and {row["strategy"] for row in rows} == {"column"}
    assert all(
        bytes(row["completion_token_ids"][:-1]).decode() == row["text"]
        and row["completion_token_ids"][-1] == STOP_TOKEN
        for row in rows
    )
    lines = [
        json.loads(line)
        for line in (path / "rounds" / "001" / "samples.jsonl").read_text().splitlines()
    ]
    assert {line["draft"]["weight_version"] for line in lines} == {f"{url}#teacher"}
    assert {(c["approved"], c["probability"]) for line in lines for c in line["critiques"]} == {
        (True, None)
    }


def test_a_server_and_the_student_draft_for_the_same_problems_under_each_system_prompt(tmp_path):
    server = Server(right)
    keys = {
        **ONE,
        "sampling": {**ONE["sampling"], "student": True, "systems": ["", "Explain."]},
        "refine": {"critique": False, "revisions": 0},
    }
    with serving(server) as url:
        model = Model()
        plain = model.engine.answer
        model.engine.answer = lambda r: plain(
            type(r)(r.id, r.prompt.removeprefix("Explain.\n"), r.sampling, r.seed)
        )
        _, path = carry(tmp_path, model, recipe(**keys, teachers=[f"{url}#teacher"]))
    ids = [
        json.loads(line)["id"]
        for line in (path / "rounds" / "001" / "samples.jsonl").read_text().splitlines()
    ]
    asked = {
        source: {i.split("/")[2] for i in ids if i.split("/")[1] == source}
        for source in ("student", "teacher0")
    }
    assert asked["student"] == asked["teacher0"] and len(asked["student"]) == 12 and len(ids) == 48
    assert sum(body["prompt"].startswith("Explain.\n") for _, body in server.asked) == 12


def test_a_run_that_lost_its_server_goes_on_when_it_is_back_and_asks_for_the_rest_only(tmp_path):
    server = Server(right)
    with serving(server) as url:
        settings = recipe(
            **ONE,
            teachers=[f"{url}#teacher"],
            engine={"weight_sync_check": False, "concurrency": 2},
            refine={"critique": False, "revisions": 0},
            servers={"attempts": 1, "set_aside_seconds": 0},
        )
        answer = server.answer

        def until_it_is_lost(body):
            if len(server.asked) >= 10:
                server.failures.extend([500] * 99)
            return answer(body)

        server.answer = until_it_is_lost
        says = r"sampling teacher0: 3 of 24 got no usable .*max_dropped: 0.1 .*`ouroloop resume`"
        with pytest.raises(EngineError, match=says):
            carry(tmp_path, Model(), settings)
        before = (tmp_path / "scripted" / "rounds" / "001" / JOURNAL).read_text()
        server.answer, server.failures, server.asked = answer, [], []
        _, path = carry(tmp_path, Model(), settings)
    num_before = before.count('"request_id":"001/teacher0')
    assert num_before > 0 and len(server.asked) == 24 - num_before
    assert Round.of(path, 1).dropped == (), "those that were dropped before were asked again"


def test_samples_that_no_server_answers_are_dropped_counted_and_shown(tmp_path):
    """Of every third question a draft is answered with rubbish, whatever is tried."""
    questions = []

    def answer(body):
        question = body["prompt"].split("\nA:\n")[0]
        if question not in questions:
            questions.append(question)
        is_lost = questions.index(question) % 3 == 0 and body["seed"] % 2 == 0
        return b'{"choices": [' if is_lost else right(body)

    server = Server(answer)
    with serving(server) as url:
        settings = recipe(
            **ONE,
            teachers=[f"{url}#teacher"],
            refine={"critique": False, "revisions": 0},
            servers={"attempts": 2, "max_dropped": 0.5, "set_aside_seconds": 0},
        )
        _, path = carry(tmp_path, Model(), settings)
    round = Round.of(path, 1)
    lost = {row.sample_id for row in round.dropped}
    samples = {sample.id: sample for sample in round.samples}
    assert lost == {name for name, sample in samples.items() if sample.dropped}
    assert 0 < len(lost) < 8 and len(round.verdicts) == 24 - len(lost) and len(samples) == 24
    assert lost.isdisjoint(verdict.sample_id for verdict in round.verdicts)
    assert all("2 attempts" in row.why and "Invalid JSON" in row.why for row in round.dropped)
    run = read_run(path)
    found = run.round(1).reading("supply/dropped:all:all:pool")
    assert found.value == len(lost) / 24
    assert found.details == {"dropped": len(lost), "asked": 24}
    assert [e["dropped"] for e in run.events if e["event"] == "filtered"] == [len(lost)]
    assert f"round 1: {len(lost)} of 24 samples were dropped" in rounds_table(run)
    assert f"{len(lost)} more were dropped" in " ".join(sentences(run))
    html = write_report([path], tmp_path / "report.html").read_text()
    assert f"{len(lost)} of 24 samples were dropped" in html
    assert samples_of_teacher_asked(server) > 24, "each was asked for again before"


def samples_of_teacher_asked(server):
    return sum(path == "/v1/completions" for path, _ in server.asked)


def test_servers_are_asked_as_the_recipe_says_and_a_list_of_them_is_one_teacher(
    tmp_path, monkeypatch
):
    made = []

    class Remote(remote.RemoteEngine):
        def __init__(self, model, tokenizer, limits, template):
            made.append((model, limits))
            super().__init__(model, tokenizer, limits, template)

    monkeypatch.setattr(remote, "RemoteEngine", Remote)
    first, second = Server(right), Server(right)
    with serving(first) as one, serving(second) as two:
        settings = recipe(
            **ONE,
            teachers=[[f"{one}#teacher", f"{two}#teacher"]],
            refine={"critique": False, "revisions": 0},
            servers={
                "timeout_seconds": 50,
                "connect_seconds": 20,
                "attempts": 3,
                "retry_after_seconds": 9,
                "set_aside_seconds": 7,
                "concurrency": 2,
                "requests_per_minute": 60_000,
                "tokens_per_minute": 10_000_000,
                "check_model": False,
                "max_dropped": 0.25,
            },
        )
        assert settings.teachers == (f"{one}#teacher {two}#teacher",)
        carry(tmp_path, Model(), settings)
        expected = Limits(
            timeout_seconds=50,
            connect_seconds=20,
            attempts=3,
            retry_after_seconds=9,
            set_aside_seconds=7,
            concurrency=2,
            requests_per_minute=60_000,
            tokens_per_minute=10_000_000,
            check_model=False,
        )
        assert made == [(f"{one}#teacher {two}#teacher", expected)]
    assert len(first.asked) + len(second.asked) == 24 and first.asked and second.asked


@pytest.mark.long
def test_a_round_with_vllms_own_server_as_the_teacher(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "server.log").open("wb")
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(resolve_model("arithmetic/teacher")),
        "--served-model-name",
        "teacher",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--generation-config",
        "vllm",
        "--dtype",
        "float32",
        "--max-model-len",
        "256",
        "--enforce-eager",
        "--kv-cache-memory-bytes",
        "134217728",
        "--no-enable-chunked-prefill",
        "--max-num-batched-tokens",
        "2048",
    ]
    environment = {**children.environment(), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        wait_for(process, f"http://127.0.0.1:{port}/v1/models", tmp_path / "server.log")
        path = tmp_path / "recipe.yaml"
        path.write_text(
            yaml.safe_dump(
                {
                    "name": "served",
                    "rounds": 1,
                    "teachers": [f"http://127.0.0.1:{port}/v1#teacher"],
                    "refine": {"critique": False, "revisions": 0},
                    "sampling": {
                        "student": False,
                        "problems_per_round": 40,
                        "samples_per_problem": 2,
                        "max_tokens": 80,
                    },
                    "probe": SMALL,
                    "sft": {
                        "learning_rate": 5e-4,
                        "per_device_train_batch_size": 16,
                        "num_train_epochs": 1,
                    },
                    "tracking": {"mlflow": False},
                }
            )
        )
        assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 0
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    run = read_run(tmp_path / "runs" / "served")
    rows = examples_of(run.path)
    assert (
        run.rounds[1].train["status"] == "trained"
        and run.rounds[1].train["num_examples"] == len(rows) > 40
    )
    verdicts = read_rows(run.path / "rounds" / "001" / "verdicts.parquet")
    assert len(verdicts) == 80 and sum(v["correct"] for v in verdicts) > 56, (
        "the teacher's 83 %, not the base's 55 %"
    )
    lines = [
        json.loads(line)
        for line in (run.path / "rounds" / "001" / "samples.jsonl").read_text().splitlines()
    ]
    assert {line["draft"]["weight_version"] for line in lines} == {
        f"http://127.0.0.1:{port}/v1#teacher"
    }


def wait_for(process, url, log):
    """Until the server answers."""
    for _ in range(1800):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server did not start")
