"""What MLflow's pages show of a run: a scripted run in a real store, and in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from types import SimpleNamespace

import pytest
from browser import browser
from scripted_world import Model, carry, nothing_graded, recipe

from ouroloop.loop.round import Round
from ouroloop.loop.trackers.choice import choose_answers, choose_samples
from ouroloop.loop.trackers.headline import ACTIONS, headline
from ouroloop.loop.trackers.mlflow import MlflowTracker
from ouroloop.loop.trackers.mlflow_run import RunRecorder
from ouroloop.loop.trackers.mlflow_store import ENVIRONMENT, default_uri
from ouroloop.loop.trackers.notes import fitted, note_of_round, note_of_run
from ouroloop.loop.trackers.points import plain, points
from ouroloop.loop.trackers.trace_drafts import drafts
from ouroloop.loop.views.cells import strategy_of
from ouroloop.loop.views.explain import room
from ouroloop.loop.views.headlines import NUM_HEADLINES, headline_measures
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.names import Action

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """A run whose model forgets most after round 1, and comes back in round 3."""
    skill = {0: 0.8, 1: 0.8, 2: 0.1}
    settings = recipe(rounds=4, monitors={"baselines": [0]})
    _, path = carry(
        tmp_path_factory.mktemp("runs"), Model(lambda number: skill.get(number, 0.95)), settings
    )
    return path


@pytest.fixture(scope="module")
def unscored(tmp_path_factory):
    """A run in which no text is right or wrong."""
    settings = recipe(
        rounds=1, refine={"revisions": 0}, filters={"gold": False, "steps": False, "critic": True}
    )
    with nothing_graded():
        _, path = carry(tmp_path_factory.mktemp("runs"), Model(lambda number: 0.6), settings)
    return path


# -- what is shown, without a server --------------------------------------------------------------


def test_the_headline_numbers_are_those_of_the_readings_and_of_the_decision(steered):
    run = read_run(steered)
    for round in run.rounds:
        found = headline(run, round)
        assert list(found) == sorted(found, key=lambda name: name.split("/")[0])
        heads = [name for name in found if name.startswith("1_headline/")]
        assert 7 <= len(heads) <= NUM_HEADLINES
        assert found["1_headline/01 pass_at_1"] == round.score("pass@1")[0]
        by_id = {reading.name: reading.value for reading in round.readings}
        dcp = next(m for m in headline_measures(run) if m.key == "dcp").of(round).id
        assert found["1_headline/04 DCP"] == by_id[dcp]
        for tier, evidence in round.decided.evidence.items():
            assert found[f"evidence/{tier}"] == evidence.log_e
            assert found[f"evidence/{tier}_limit"] == evidence.log_limit
        if round.number:
            assert found["decision/action"] == ACTIONS[Action(round.action)]
            worst = min(room(guard) for guard in round.decided.guards)
            rooms = [value for name, value in found.items() if name.startswith("tolerance/")]
            assert min(rooms) == worst
    names = {name for round in run.rounds for name in headline(run, round)}
    assert len(names) <= 40


def test_a_run_that_nobody_scored_has_headlines_too(unscored):
    run = read_run(unscored)
    found = headline(run, run.rounds[1])
    heads = [name for name in found if name.startswith("1_headline/")]
    assert len(heads) >= 3 and not any("pass_at_1" in name for name in heads)
    assert {"tolerance/apart", "tolerance/canned", "evidence/watch"} <= set(found)
    (draft,) = [d for d in drafts(run.rounds[1], 4, 0) if d.name == "sample"][:1]
    assert "right" not in {judgement.name for judgement in draft.judgements}


def test_the_choice_shows_kept_and_rejected_every_reason_and_every_strategy(steered):
    round = read_run(steered).rounds[3]
    chosen = choose_samples(round, 24, seed=0)
    assert [row["sample_id"] for row in chosen] == [
        row["sample_id"] for row in choose_samples(round, 24, seed=0)
    ]
    assert chosen != choose_samples(round, 24, seed=1)
    assert len({row["sample_id"] for row in chosen}) == 24
    rows = round.verdicts.to_dict("records")
    kept = [row for row in rows if row["kept"]]
    count = Counter(bool(row["kept"]) for row in chosen)
    assert count[True] >= min(12, len(kept)) and count[False] >= min(12, len(rows) - len(kept))
    strategies = {strategy_of(row) for row in kept}
    assert {strategy_of(row) for row in chosen if row["kept"]} == strategies and len(strategies) > 2
    reasons = {row["reasons"][0] for row in rows if not row["kept"]}
    assert {row["reasons"][0] for row in chosen if not row["kept"]} == reasons


def test_the_same_probe_problems_are_shown_in_every_round(steered):
    run = read_run(steered)
    problems = [[row["problem"] for row in choose_answers(r, 6, seed=0)] for r in run.rounds]
    assert len(set(problems[0])) == 6 and all(found == problems[0] for found in problems)
    slices = {(row["family"]) for row in choose_answers(run.rounds[0], 6, seed=0)}
    assert len(slices) > 1


def test_as_many_traces_as_asked_for_a_quarter_of_them_of_the_probe_set(steered):
    run = read_run(steered)
    names = Counter(draft.name for draft in drafts(run.rounds[1], 40, 0))
    assert names == {"sample": 30, "probe answer": 10}
    assert {draft.name for draft in drafts(run.rounds[0], 8, 0)} == {"probe answer"}
    assert drafts(run.rounds[1], 0, 0) == []


def test_the_notes_answer_the_five_questions(steered):
    run = read_run(steered)
    note = note_of_run(run, "Where to look.")
    assert "\n\nWhere to look.\n\n" in note
    assert note.startswith("**Checkpoint to take:** round ")
    assert str(run.checkpoint(run.best_round)) in note.splitlines()[0]
    acted = [round for round in run.rounds if round.action != Action.CONTINUE]
    for round in acted:
        assert round.decided.reasons[0] in note
        assert f"| {round.number}" in note
        own = note_of_round(run, round)
        assert own.startswith(f"**{round.action}**") and round.decided.reasons[0] in own
        assert "**Done next:**" in own
    assert "**Did it help:**" in note_of_round(run, acted[0])


def test_a_note_that_is_too_long_ends_with_a_whole_line_and_says_so():
    rows = "\n".join(f"| {number} | continue{' ' * 40} |" for number in range(2000))
    note = fitted(f"| round | action |\n| ----- | -------- |\n{rows}")
    assert len(note) <= 7900 and note.startswith(
        "| round | action |\n| --- | --- |\n| 0 | continue |"
    )
    assert note.endswith("`ouroloop explain`)") and note.splitlines()[-3].endswith("continue |")


# -- in a real store ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(steered):
    """The run in a database of its own: folder, client, ids, seconds of each round."""
    import mlflow

    before = mlflow.get_tracking_uri()
    seconds = []
    log_round = RunRecorder.log_round

    def timed(self, round, numbers):
        began = time.process_time()
        log_round(self, round, numbers)
        seconds.append(time.process_time() - began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunRecorder, "log_round", timed)
        MlflowTracker(traces=44).sync(steered)
    client = mlflow.MlflowClient(default_uri(steered.parent))
    ids = json.loads((steered / "tracking.json").read_text())
    yield SimpleNamespace(path=steered, client=client, ids=ids, seconds=seconds)
    mlflow.set_tracking_uri(before)


def traces_of(recorded, run_id):
    import mlflow

    return mlflow.search_traces(
        locations=[recorded.ids["experiment_id"]],
        run_id=run_id,
        return_type="list",
        max_results=500,
    )


def child(recorded, number):
    return recorded.ids["rounds"][str(number)]["run_id"]


@pytest.mark.slow
def test_the_parent_has_few_metrics_and_the_children_have_the_rest(recorded):
    run = read_run(recorded.path)
    parent = recorded.client.get_run(recorded.ids["parent"]).data.metrics
    assert set(parent) == {name for round in run.rounds for name in headline(run, round)}
    assert sorted(parent)[0] == "1_headline/01 pass_at_1"
    for round in run.rounds:
        own = recorded.client.get_run(child(recorded, round.number)).data.metrics
        assert set(points(run, round)) <= set(own) and not set(own) & set(parent)
        history = recorded.client.get_metric_history(recorded.ids["parent"], "evidence/halt")
        assert {m.step for m in history} == {r.number for r in run.rounds if r.decided.evidence}


@pytest.mark.slow
def test_a_trace_is_the_samples_way_with_its_tokens_and_what_was_found_about_it(recorded):
    round = read_run(recorded.path).rounds[2]
    found = traces_of(recorded, child(recorded, 2))
    assert len(found) == 44
    verdicts = {row["sample_id"]: row for row in round.verdicts.to_dict("records")}
    chains = {chain["id"]: chain for chain in round.samples()}
    samples = [trace for trace in found if trace.info.client_request_id in verdicts]
    assert len(samples) == 33
    for trace in samples:
        verdict = verdicts[trace.info.client_request_id]
        chain = chains[trace.info.client_request_id]
        assert trace.info.trace_metadata["mlflow.trace.session"] == "r02/scripted"
        spans = {}
        for span in trace.data.spans:
            spans.setdefault(span.name, []).append(span)
        draft = spans["draft"][0]
        assert draft.outputs == chain["draft"]["text"].strip()
        assert draft.attributes["token_ids"] == chain["draft"]["token_ids"]
        assert draft.attributes["logprobs"] == [round_(x) for x in chain["draft"]["logprobs"]]
        usage = draft.attributes["mlflow.chat.tokenUsage"]
        assert usage["output_tokens"] == len(chain["draft"]["token_ids"])
        assert len(spans.get("critique", [])) == len(chain["critiques"])
        assert len(spans.get("revision", [])) == len(chain["revisions"])
        assert spans["verdict"][0].outputs["reasons"] == list(verdict["reasons"])
        said = {a.name: a for a in trace.info.assessments}
        assert said["1_kept"].value is bool(verdict["kept"])
        assert said["steps_right"].value is bool(verdict["valid"])
        assert said["gold"].value == verdict["gold"]
        if verdict["strategy"]:
            assert said["strategy"].value == verdict["strategy"]
        if not verdict["kept"]:
            assert said["2_rejected_by"].value == verdict["reasons"][0]
        if chain["critiques"]:
            assert said["critic_approves"].value is chain["critiques"][-1]["approved"]
            assert said["critic_approves"].source.source_type == "LLM_JUDGE"


def round_(value: float) -> float:
    return round(value, 3)


@pytest.mark.slow
def test_the_runs_own_page_lists_the_traces_of_all_rounds(recorded):
    sessions = Counter(
        trace.info.trace_metadata["mlflow.trace.session"]
        for trace in traces_of(recorded, recorded.ids["parent"])
    )
    assert set(sessions) == {f"r{number:02d}/scripted" for number in range(5)}
    assert all(sessions[f"r{number:02d}/scripted"] == 44 for number in range(1, 5))


@pytest.mark.slow
def test_report_figures_notes_and_datasets_stand_on_the_pages(recorded):
    run, client, parent = read_run(recorded.path), recorded.client, recorded.ids["parent"]
    files = {a.path for where in ("", "figures") for a in client.list_artifacts(parent, where)}
    assert {"report.html", "figures/strategies.png", "figures/reliability.png"} <= files
    whole = client.get_run(parent)
    note = whole.data.tags["mlflow.note.content"]
    assert note.startswith("**Checkpoint to take:** round ")
    assert "`ouroloop-scripted@champion`" in note and "*Traces*" in note
    named = [(d.dataset.name, d.tags[0].value) for d in whole.inputs.dataset_inputs]
    assert ("scripted-probe-set", "probe") in named and ("scripted-r01-train", "train") in named
    for round in run.rounds:
        own = client.get_run(child(recorded, round.number))
        assert own.data.tags["mlflow.note.content"] == note_of_round(run, round)
        contexts = {d.tags[0].value for d in own.inputs.dataset_inputs}
        assert contexts == ({"train", "probe"} if len(round.examples) else {"probe"})
        (probe,) = [d for d in own.inputs.dataset_inputs if d.tags[0].value == "probe"]
        assert json.loads(probe.dataset.source)["uri"] == str(round.path / Round.probe.file)


@pytest.mark.slow
def test_recording_a_round_again_doubles_no_trace_and_no_assessment(recorded):
    def everything():
        return {
            trace.info.trace_id: sorted(a.name for a in trace.info.assessments)
            for trace in traces_of(recorded, child(recorded, 2))
        }

    before = everything()
    known = json.loads((recorded.path / "tracking.json").read_text())
    # As a sync leaves it that was cut off after its traces.
    del known["rounds"]["2"]["done"]
    (recorded.path / "tracking.json").write_text(json.dumps(known))
    MlflowTracker(traces=44).sync(recorded.path)
    assert everything() == before and len(before) == 44


@pytest.mark.slow
def test_a_round_is_logged_within_three_seconds_of_a_core(recorded):
    # The first one imports what MLflow puts off until it is needed. Seconds of the processor, for
    # a test's machine may be busy.
    assert len(recorded.seconds) >= 5 and max(recorded.seconds[1:5]) < 3.0


@pytest.mark.slow
def test_a_registered_model_is_loaded_by_its_alias_without_its_weights_being_copied(recorded):
    import mlflow

    name = "ouroloop-scripted"
    baseline = recorded.client.get_model_version_by_alias(name, "baseline")
    champion = recorded.client.get_model_version_by_alias(name, "champion")
    best = read_run(recorded.path).best_round
    assert baseline.run_id == child(recorded, 0) and champion.run_id == child(recorded, best)
    stored = [p for p in (recorded.path.parent / "mlartifacts").rglob("*") if p.is_file()]
    assert not [p for p in stored if p.suffix in (".safetensors", ".bin", ".pt")]
    model = mlflow.pyfunc.load_model(f"models:/{name}@baseline")
    answers = model.predict(
        [
            "There are 24 shells here and 67 there. How many in all?\nA:\n",
            "Add 12 and 15.\nA:\n",
        ]
    )
    assert [answer.splitlines()[-1] for answer in answers] == ["answer 91", "answer 27"]
    (short,) = model.predict(["Add 12 and 15.\nA:\n"], params={"max_tokens": 4})
    assert answers[1].startswith(short) and len(short) < len(answers[1])


@pytest.mark.slow
def test_a_model_whose_run_is_elsewhere_says_where_it_is(recorded, tmp_path):
    import mlflow

    from ouroloop.loop.errors import CheckpointError

    hidden = recorded.path.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(CheckpointError, match="copy the run there"):
            mlflow.pyfunc.load_model("models:/ouroloop-scripted@baseline")
    finally:
        hidden.rename(recorded.path)


# -- in a real browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(recorded):
    """MLflow's pages of the run, served on loopback: the address of the experiment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = recorded.path.parent
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    options += ["--backend-store-uri", default_uri(root)]
    options += ["--artifacts-destination", str(root / "mlartifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *options]
    with (root / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**environment()})
    try:
        until = time.monotonic() + 180
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < until, (root / "server.log").read_text()
                time.sleep(1)
        yield f"http://127.0.0.1:{port}/#/experiments/{recorded.ids['experiment_id']}"
    finally:
        server.terminate()
        server.wait(60)


def environment():
    import os

    return {**os.environ, **ENVIRONMENT}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(str(CHROMIUM), tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


@pytest.mark.slow
@needs_browser
def test_the_page_of_a_round_lists_its_traces_in_a_browser(recorded, pages, chromium):
    address = f"{pages}/runs/{child(recorded, 2)}/traces?workflowType=machine_learning"
    # At least 32 of them are listed.
    assert "r02/scripted" in chromium.shown(address, r"\b(3[2-9]|4\d) of 44\b", "r02/scripted")


@pytest.mark.slow
@needs_browser
def test_the_headline_numbers_stand_first_in_a_browser(recorded, pages, chromium):
    address = f"{pages}/runs/{recorded.ids['parent']}"
    query = "?workflowType=machine_learning"
    shown = chromium.shown(f"{address}/model-metrics{query}", r"05 two ways")
    heads = [line.strip() for line in shown.splitlines()]
    order = [
        heads.index(name)
        for name in ("01 pass_at_1", "02 maj_at_8", "03 pass_at_4", "04 DCP", "05 two ways")
    ]
    assert order == sorted(order)
    others = [heads.index(name) for name in heads if re.match(r"(evidence|tolerance) \(", name)]
    assert not others or min(others) > max(order)
    # The note above names metrics, too.
    rows = [rf"(?s)Metrics \(.*{name}" for name in ("1_headline/01 pass_at_1", "decision/action")]
    overview = chromium.shown(f"{address}{query}", "Checkpoint to take:", *rows)
    table = overview[overview.index("Metrics (") :]
    assert table.index("1_headline/01 pass_at_1") < table.index("decision/action")


def test_a_name_is_made_of_what_mlflow_takes():
    assert plain("1_headline/01 pass@1") == "1_headline/01 pass_at_1"
