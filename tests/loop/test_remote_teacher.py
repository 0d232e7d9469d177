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
from ouroloop.loop.engines.process import child_environment
from ouroloop.loop.engines.scripted import STOP_TOKEN
from ouroloop.loop.errors import EngineError
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.store import read_json, read_rows
from ouroloop.loop.views.reader import read_run

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


def test_a_run_that_lost_its_server_goes_on_when_it_is_back_and_asks_for_the_rest_only(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.002)
    server = Server(right)
    with serving(server) as url:
        settings = recipe(
            **ONE,
            teachers=[f"{url}#teacher"],
            engine={"weight_sync_check": False, "concurrency": 2},
            refine={"critique": False, "revisions": 0},
        )
        answer = server.answer
        server.answer = lambda body: (
            answer(body) if len(server.asked) < 10 else ("", server.failures.extend([500] * 99))[0]
        )
        with pytest.raises(EngineError, match="ouroloop resume"):
            carry(tmp_path, Model(), settings)
        before = (tmp_path / "scripted" / "rounds" / "001" / "samples.jsonl").read_text()
        server.answer, server.failures, server.asked = answer, [], []
        _, path = carry(tmp_path, Model(), settings)
    after = (path / "rounds" / "001" / "samples.jsonl").read_text()
    assert before and after.startswith(before) and len(server.asked) == 24 - before.count("\n")


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
    environment = {**child_environment(), "OMP_NUM_THREADS": "1"}
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
