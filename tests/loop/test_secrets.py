"""Secrets of a recipe are used, and stand nowhere that a run writes."""

import json
import os

import pytest
import yaml
from scripted_world import SMALL, Model, carry, no_training, recipe

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.folder.store import Store
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.recipes import secrets
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve
from ouroloop.loop.trackers import process

HIDDEN = {
    "tracking.uri": "pa55word",
    "sft.hub_token": "hf_tokenoftrainer",
    "engine.extra.hf_token": "hf_tokenofengine",
    "tracking.trackers.0.options.api_key": "keyoftracker",
}


class Chatty:
    """A tracker that fails with its key in its message."""

    def __init__(self, api_key):
        self.api_key = api_key

    def sync(self, run_path):
        raise ConnectionError(f"refused {self.api_key} at postgresql://me:{self.api_key}@host/db")


SECRETIVE = {
    **SMALL,
    "rounds": 1,
    "tracking": {
        "mlflow": False,
        "uri": "postgresql://me:pa55word@host/runs",
        "trackers": [{"use": f"{__name__}:Chatty", "options": {"api_key": "keyoftracker"}}],
    },
    "sft": {"hub_token": "hf_tokenoftrainer", "eos_token": "<end>"},
    "engine": {"extra": {"hf_token": "hf_tokenofengine"}},
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for key in HIDDEN:
        os.environ.pop(secrets.variable(key), None)


def everything_in(folder):
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file()).decode(
        "utf-8", errors="replace"
    )


def test_no_file_of_a_run_holds_a_secret_and_the_run_uses_them(tmp_path):
    settings = recipe(**SECRETIVE)
    seen = []

    def train(job, folder, report):
        seen.append(job.settings["hub_token"])
        (folder / "job.json").write_text(json.dumps(job.to_json()))
        return no_training(job, folder, report)

    _, path = carry(tmp_path, Model(), settings, train)
    assert seen == ["hf_tokenoftrainer"]
    assert settings.engine.extra["hf_token"] == "hf_tokenofengine"
    written = everything_in(tmp_path)
    assert [secret for secret in HIDDEN.values() if secret in written] == []
    stored = json.loads((path / "recipe.json").read_text())
    assert stored["tracking"]["uri"] == "postgresql://me:***@host/runs"
    assert stored["sft"] == {"hub_token": "***", "eos_token": "<end>"}


def test_a_tracker_gets_its_key_and_its_errors_do_not_show_it(tmp_path, capsys):
    store = Store.create(tmp_path, recipe(**SECRETIVE), "none")
    store.close()
    (failure,) = process.sync(store.path)
    said = failure + capsys.readouterr().err
    assert "refused *** at postgresql://me:***@host/db" in said and "keyoftracker" not in said


def test_a_resumed_run_takes_secrets_from_the_environment_and_names_the_missing_one(tmp_path):
    store = Store.create(tmp_path, recipe(**SECRETIVE), "none")
    store.close()
    for key, value in HIDDEN.items():
        name = secrets.variable(key)
        assert os.environ.pop(name) == value, "children find it"
    missing = dict(HIDDEN)
    while missing:
        with pytest.raises(RecipeError, match=r"OUROLOOP_SECRET_\w+") as found:
            Store.open(store.path)
        named = next(key for key in missing if secrets.variable(key) + " " in str(found.value))
        os.environ[secrets.variable(named)] = missing.pop(named)
    again = Store.open(store.path)
    assert again.recipe.sft["hub_token"] == "hf_tokenoftrainer"
    assert again.recipe.tracking.uri == "postgresql://me:pa55word@host/runs"
    assert again.recipe.fingerprint() == recipe(**SECRETIVE).fingerprint()
    again.close()


def test_a_new_password_is_no_other_recipe():
    other = json.loads(json.dumps(SECRETIVE).replace("pa55word", "n3wer"))
    assert recipe(**other).fingerprint() == recipe(**SECRETIVE).fingerprint()


def test_a_recipe_may_leave_the_secret_to_the_environment(tmp_path, capsys):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"name": "r", "tracking": {"uri": "http://me:***@host"}}))
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert "OUROLOOP_SECRET_TRACKING_URI" in capsys.readouterr().err
    os.environ["OUROLOOP_SECRET_TRACKING_URI"] = "pa55word"
    assert load_recipe(path).tracking.uri == "http://me:pa55word@host"
    assert main(["run", str(path), "--print"]) == 0
    assert "pa55word" not in capsys.readouterr().out


def test_a_job_is_the_same_in_the_child(tmp_path):
    job = TrainingJob.from_recipe(recipe(**SECRETIVE, peft=None), tmp_path, tmp_path, seed=0)
    job.expose_secrets()
    raw = json.loads(json.dumps(job.to_json()))
    assert raw["settings"]["hub_token"] == "***" and TrainingJob.from_json(raw) == job


ADDRESSES = {
    "https://hf_secret@host/v1": ("https://***@host/v1", "OUROLOOP_SECRET_TRACKING_URI"),
    "https://host/x?a=1&token=hf_secret&b=2": (
        "https://host/x?a=1&token=***&b=2",
        "OUROLOOP_SECRET_TRACKING_URI_TOKEN",
    ),
    "postgresql://user@host/db?sslmode=require": (None, None),
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_token_in_an_address_is_a_secret_and_the_name_of_a_databases_user_is_none(address):
    masked, variable = ADDRESSES[address]
    raw = {"tracking": {"uri": address}}
    shown = secrets.masked(raw)["tracking"]["uri"]
    assert shown == (masked or address)
    assert secrets.redacted(f"no answer from {address}") == f"no answer from {shown}"
    secrets.expose(raw)
    assert variable is None or os.environ.pop(variable) == "hf_secret"
    if variable is not None:
        os.environ[variable] = "hf_secret"
        assert secrets.unmasked({"tracking": {"uri": shown}}) == raw


def test_a_wrong_recipe_does_not_print_its_secret():
    with pytest.raises(RecipeError) as found:
        resolve({"name": "r", "token": "hf_shown"})
    assert "hf_shown" not in str(found.value)


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("hub_token", True),
        ("push_to_hub_token", True),
        ("token", True),
        ("api_key", True),
        ("apiKey", True),
        ("x-api-key", True),
        ("hf-token", True),
        ("eos-token", False),
        ("aws_secret_access_key", True),
        ("password", True),
        ("db_password", True),
        ("Authorization", True),
        ("eos_token", False),
        ("pad_token", False),
        ("max_tokens", False),
        ("tokenizer", False),
        ("key", False),
        ("secretary", False),
    ],
)
def test_keys_that_hold_secrets_are_known_by_name(key, is_secret):
    assert secrets.is_secret_key(key) is is_secret
