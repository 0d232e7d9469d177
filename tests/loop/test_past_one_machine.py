"""What cannot work past one machine is refused in one line, before anything is made."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import fsspec
import pytest
import yaml

from ouroloop.loop import extras
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import Level, memory, storage
from ouroloop.loop.checks.memory import Room
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.students import refuse_unfit
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.models.shape import read_shape
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare

NOBODY = "127.0.0.1:1"


def said_by(tmp_path, capsys, **sections):
    """What a run of this recipe says; nothing may have been made."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"name": "far", "rounds": 1, **sections}))
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert not (tmp_path / "runs").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


@contextmanager
def listing(paths):
    """The address of a server of the model `student` that lists these endpoints."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = {"data": [{"id": "student", "object": "model"}]}
            if self.path == "/openapi.json":
                answer = {"paths": {path: {} for path in paths}}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *what):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1#student"
        http.shutdown()


def test_a_ray_cluster_that_does_not_answer_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: name)
    line = said_by(tmp_path, capsys, engine={"kind": "ray"}, ray={"address": NOBODY})
    assert f"no Ray cluster answers at {NOBODY}" in line and "ray start --head" in line
    # The variable that Ray itself reads.
    monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    assert f"answers at {NOBODY}" in said_by(tmp_path, capsys, engine={"kind": "ray"})


@pytest.mark.slow
def test_a_server_without_the_endpoint_that_loads_weights_is_refused():
    with listing(["/v1/completions"]) as address:
        with pytest.raises(RecipeError, match=r"no /collective_rpc.*VLLM_SERVER_DEV_MODE=1"):
            refuse_unfit([address], "rpc")
        with pytest.raises(RecipeError, match=r"no /v1/load_lora_adapter.*RUNTIME_LORA_UPDATING=1"):
            refuse_unfit([address], "lora")
        # A command of the user's own needs none.
        refuse_unfit([address], ("./load.sh", "{checkpoint}"))
    with listing(["/v1/completions", "/collective_rpc"]) as address:
        refuse_unfit([address], "rpc")


@pytest.mark.slow
def test_a_student_that_does_not_answer_is_started_as_its_reload_needs(tmp_path, capsys):
    students = {"addresses": [f"http://{NOBODY}/v1#student"]}
    line = said_by(tmp_path, capsys, engine={"kind": "server"}, students=students)
    assert "no server answers" in line and "`VLLM_SERVER_DEV_MODE=1 vllm serve FOLDER" in line


@pytest.mark.parametrize("url", ["nowhere://bucket", "file:///proc/none", "s3:///", "s3://bucket"])
def test_a_storage_that_cannot_be_written_to_is_refused(tmp_path, capsys, url):
    line = said_by(tmp_path, capsys, storage={"url": url})
    assert "storage.url" in line and url in line


def test_a_copy_that_is_there_already_is_not_written_over(tmp_path, capsys):
    manifest = tmp_path / "copy/far/rounds/000/MANIFEST.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    line = said_by(tmp_path, capsys, storage={"url": f"file://{tmp_path}/copy"})
    assert "holds a run of this name already" in line and "ouroloop resume file://" in line


def test_the_check_says_whether_the_storage_can_be_written_to_and_leaves_nothing_there(tmp_path):
    url = f"memory://{tmp_path}/copy"
    for where, level in ((url, Level.OK), ("nowhere://copy", Level.ERROR)):
        setting = prepare(resolve({"name": "far", "storage": {"url": where}}))
        (found,) = storage.check(setting, tmp_path / "runs/far")
        assert found.level is level and where in found.what
    assert not fsspec.filesystem("memory").find(f"{tmp_path}")
    assert storage.check(prepare(resolve({"name": "far"})), tmp_path) == []


@pytest.mark.parametrize("kind", ["ray", "server"])
def test_memory_that_serving_takes_elsewhere_is_not_counted_here(kind):
    recipe = resolve({"name": "far", "engine": {"kind": kind, "dtype": "float32"}, "peft": None})
    (found,) = memory.check(
        recipe,
        [read_shape(check_checkpoint(resolve_model("arithmetic/base")))],
        Room(2**34, 2**34, num_devices=1, is_gpu=False),
    )
    assert f"serving takes memory elsewhere (engine.kind: {kind}), training 0.0" in found.what
