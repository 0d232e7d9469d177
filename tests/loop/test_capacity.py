"""`ouroloop plan --hardware`: tokens, memory, time and disk, against runs and published sizes."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_world import Model, carry, small

from ouroloop.loop.__main__ import main
from ouroloop.loop.capacity.hardware import parse
from ouroloop.loop.capacity.measured import Measured, from_file, from_run
from ouroloop.loop.capacity.memory import checkpoint_bytes, memory_of
from ouroloop.loop.capacity.plan import capacity
from ouroloop.loop.capacity.tokens import tokens_of
from ouroloop.loop.checks import memory as checks
from ouroloop.loop.checks.findings import Level
from ouroloop.loop.costs import Purpose, sampled
from ouroloop.loop.errors import UserError
from ouroloop.loop.models.shape_of_config import read_config, shape_of
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve
from ouroloop.loop.round import Round
from ouroloop.loop.stages.costs import costs_of
from ouroloop.loop.views.reader import read_run

ROOT = Path(__file__).parents[2]
SCALE = ROOT / "docs" / "scale"
# Facts of the published models (their model cards).
PUBLISHED = {
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.1-70b": 70_553_706_496,
}
QWEN_1_5B = {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def planned(capsys, *arguments):
    code = main(["plan", *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


# ----- against a run -----


@pytest.fixture
def demo_run():
    """What the demo did on two idle cores, and what its first rounds showed."""
    path = SCALE / "demo_measured.json"
    return json.loads(path.read_text())["run"], from_file(path)


def demo_recipe():
    """The demo as it was when that run was made."""
    return load_recipe(
        ROOT / "runs" / "recipes" / "demo.yaml",
        ["refine.criticise=all", "monitors.baselines=[0,1]", "probe.traces=0"],
    )


def test_the_first_rounds_of_the_demo_foretell_its_tokens_time_and_disk(demo_run):
    run, measured = demo_run
    found = capacity(demo_recipe(), parse("cpu"), measured)
    for purpose in (Purpose.DRAFTS, Purpose.CRITIQUES, Purpose.PROBE, Purpose.CRITIC):
        assert found.run.tokens[purpose] == pytest.approx(run["tokens"][purpose], rel=0.06)
    total = sum(run["tokens"][p] for p in Purpose if p is not Purpose.SCORED)
    assert found.run.sampled == pytest.approx(total, rel=0.03)
    # Later rounds kept fewer examples than the first ones.
    assert found.run.seconds == pytest.approx(run["seconds"], rel=0.12)
    assert found.disk == pytest.approx(run["disk_bytes"], rel=0.05)


def test_what_was_measured_replaces_the_bounds_and_what_is_given_replaces_that(demo_run):
    _, measured = demo_run
    recipe, there = demo_recipe(), parse("cpu")
    bound, known = capacity(recipe, there, Measured()), capacity(recipe, there, measured)
    assert bound.run.seconds is None and any("upper bounds" in note for note in bound.notes)
    for purpose in (Purpose.DRAFTS, Purpose.REVISIONS, Purpose.PROBE):
        assert bound.run.tokens[purpose] > known.run.tokens[purpose]
    faster = capacity(recipe, there, measured.but(sampling_rate=2 * measured.sampling_rate))
    saved = known.run.sampled / measured.sampling_rate / 2
    assert known.run.seconds - faster.run.seconds == pytest.approx(saved)


@pytest.mark.slow
def test_a_run_tells_its_lengths_shares_and_rates(tmp_path, capsys):
    settings = small(rounds=2, refine={"max_critique_tokens": 200})
    _, path = carry(tmp_path, Model(lambda number: 0.5), settings)
    run = read_run(path)
    measured = from_run(run)
    costs = [costs_of(Round.of(path, number)) for number in (1, 2)]
    drafts = sum(each[Purpose.DRAFTS].tokens for each in costs)
    assert measured.draft_tokens == drafts / sum(each[Purpose.DRAFTS].texts for each in costs)
    assert measured.critiques_per_draft > measured.revisions_per_draft > 0
    # Its own lengths give its own tokens again, up to the spread between its rounds.
    found = capacity(settings, parse("cpu"), measured)
    for purpose in (Purpose.DRAFTS, Purpose.CRITIQUES, Purpose.REVISIONS):
        assert found.run.tokens[purpose] == pytest.approx(
            sum(each[purpose].tokens for each in costs)
        )
    # The calibration file is the plan's own output.
    (tmp_path / "r.yaml").write_text(json.dumps({"name": settings.name}))
    given = ["--hardware", "cpu", "--runs", str(tmp_path), "--json"]
    out = planned(capsys, str(tmp_path / "r.yaml"), *given)
    (tmp_path / "plan.json").write_text(out)
    assert from_file(tmp_path / "plan.json") == measured
    again = planned(capsys, "demo", *given, "--from", str(tmp_path / "plan.json"))
    assert json.loads(again)["measured"] == json.loads(out)["measured"]


# ----- sizes and memory -----


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_a_config_alone_gives_the_published_number_of_weights(name, count):
    assert read_config(SCALE / f"{name}.json").num_parameters == count


def test_the_table_of_docs_memory_for_a_24_gb_card_comes_out_again(monkeypatch, tmp_path):
    monkeypatch.setenv("OUROLOOP_DATA", str(tmp_path))
    recipe = load_recipe(ROOT / "runs" / "recipes" / "gsm8k_24gb.yaml")
    card = parse("1x24GB")
    shape = shape_of(QWEN_1_5B)
    assert shape.num_parameters == 1_543_714_304
    memory = memory_of(recipe, shape, card)
    gib = 2**30
    assert memory.weights / gib == pytest.approx(2.9, abs=0.05)
    assert memory.states / gib == pytest.approx(3.2, abs=0.05)
    assert memory.kept / gib == pytest.approx(3.7, abs=0.1)
    # Weights, keys and values together are the engine's share of the card.
    assert memory.weights + memory.cache < 0.45 * card.memory
    assert memory.most < card.memory
    # An adapter's checkpoint, against peft's own file for this rank: 18.5 M weights.
    assert checkpoint_bytes(recipe, shape) == pytest.approx(18_464_768 * 2, rel=0.01)
    whole = recipe.model_copy(update={"peft": None})
    assert memory_of(whole, shape, card).states > 23 * gib
    # As the published files are stored.
    assert checkpoint_bytes(whole, shape) == 2 * shape.num_parameters
    assert checkpoint_bytes(whole, replace(shape, stored="F32")) == 4 * shape.num_parameters


def test_more_devices_divide_weights_and_states_and_never_a_head():
    recipe = resolve({"name": "x", "model": "m", "launcher": "accelerate", "peft": None})
    recipe = recipe.model_copy(
        update={"engine": recipe.engine.model_copy(update={"dtype": "bfloat16"})}
    )
    shape = read_config(SCALE / "llama-3.1-70b.json")
    memory = memory_of(recipe, shape, parse("64xH100"))
    assert memory.devices_an_engine == 4 and memory.num_engines == 16
    assert memory.states == pytest.approx(16 * shape.num_parameters / 64)
    assert memory_of(recipe, shape, parse("64x24GB")).devices_an_engine == shape.kv_heads


def test_states_are_divided_only_where_the_launcher_shards_them():
    shape, there = read_config(SCALE / "qwen2.5-7b.json"), parse("8xH100")

    def made(config):
        keys = {"name": "x", "model": "m", "launcher": "accelerate", "peft": None}
        found = resolve({**keys, "accelerate_config": config})
        engine = found.engine.model_copy(update={"dtype": "bfloat16", "swap": "respawn"})
        return found.model_copy(update={"engine": engine})

    whole = 16 * shape.num_parameters
    for config in ("several_gpus", "several_nodes", "deepspeed_zero3"):
        assert memory_of(made(config), shape, there).states == pytest.approx(whole / 8)
    assert memory_of(made("two_cpu_processes"), shape, there).states == whole
    # The same of `ouroloop run --check`: 122 GB of states on cards of 80.
    room = checks.Room(80 * 10**9, 80 * 10**9, 8, is_gpu=True)
    levels = [checks.check(made(c), [shape], room)[0].level for c in ("several_gpus", "one_gpu")]
    assert levels == [Level.OK, Level.ERROR]


def test_the_judge_the_audit_and_the_fit_of_clusters_are_counted():
    from ouroloop.loop.capacity.plan import panel_of

    recipe = load_recipe(ROOT / "runs" / "recipes" / "constitutional.yaml")
    panel, _ = panel_of(recipe)
    assert panel.fits_clusters and panel.num_judged == 100 and panel.num_criteria == 2
    lengths = Measured(probe_tokens=10.0, judge_tokens=5.0)
    tokens = [tokens_of(recipe, panel, lengths, number) for number in range(3)]
    # 16 samples, 16 for the fit, one greedy; later rounds have 8 and one.
    assert tokens[0][Purpose.PROBE] == panel.num_problems * 33 * 10
    assert tokens[1][Purpose.PROBE] == panel.num_problems * 9 * 10
    assert tokens[1][Purpose.JUDGE] == 100 * 2 * 2 * 5 and tokens[0][Purpose.JUDGE] == 4000
    assert sampled(tokens[0]) > 0 == tokens[1][Purpose.AUDIT]


@pytest.mark.parametrize("name", ["8xTPU", "H100", "0xH100", "1x", "two"])
def test_hardware_that_is_not_known_is_refused_with_the_names(name):
    with pytest.raises(UserError, match=r"expected cpu, or NxDEVICE .*H100"):
        parse(name)


def test_a_file_that_is_no_config_or_no_measurement_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"hidden_size": 3}')
    with pytest.raises(UserError, match="intermediate_size"):
        read_config(tmp_path / "x.json")
    with pytest.raises(UserError, match="sampling_rate"):
        from_file(tmp_path / "x.json")


# ----- the page -----


COMMAND = re.compile(r"```text\n\$ ouroloop plan ([^`]*?[^\\])\n\n(.*?)```", re.S)


def test_every_number_of_docs_scale_comes_from_the_command_above_it(capsys, monkeypatch, tmp_path):
    # The page was made where GSM8K's files are not: nobody else needs them to read it.
    monkeypatch.setenv("OUROLOOP_DATA", str(tmp_path))
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "scale.md").read_text()
    found = COMMAND.findall(page)
    assert len(found) >= 4
    for arguments, expected in found:
        words = shlex.split(arguments.replace("\\\n", " "))
        out = planned(capsys, *words, "--runs", str(tmp_path))
        assert out.strip() == expected.strip(), arguments


def test_the_table_of_what_is_watched_is_the_tools_own(monkeypatch, tmp_path):
    monkeypatch.setenv("OUROLOOP_DATA", str(tmp_path))
    monkeypatch.syspath_prepend(ROOT / "tools")
    import watched_shares

    table = watched_shares.table()
    assert table in (ROOT / "docs" / "scale.md").read_text()
    assert table.count("\n") > 20 and "| rft_hf " in table


@pytest.mark.slow
@pytest.mark.long
def test_the_table_of_smaller_probe_sets_is_the_tools_own(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import watched_shares

    assert watched_shares.panel_table() in (ROOT / "docs" / "scale.md").read_text()
