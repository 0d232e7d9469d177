"""Equal ids have equal values, in every output of a run; and no two values share a label."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from scripted_world import Model, carry, recipe

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.trackers.points import plain, points
from ouroloop.loop.views.compare import compare, compare_table
from ouroloop.loop.views.headlines import SCORED_TABLE
from ouroloop.loop.views.lookup import find
from ouroloop.loop.views.measures import MEASURES, Measure
from ouroloop.loop.views.monitor import COLUMNS, monitor, table, to_json
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import RoundData, RunData, read_run
from ouroloop.loop.views.report import write_report
from ouroloop.loop.views.statistics import DASH, STATISTICS, label, written
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.estimators.estimand import EVERY, Estimand

# A whole run is carried out and shown in every way.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """A model that narrows to one strategy, with a baseline round of twice as many samples."""

    def narrowing(number: int) -> dict[str, float]:
        return {n: w ** (1 + 2 * number) for n, w in world.STRATEGY_WEIGHTS.items()}

    model = Model(skill=lambda number: 0.55 + 0.1 * number, mix=narrowing)
    _, path = carry(tmp_path_factory.mktemp("runs"), model, recipe(rounds=2))
    return read_run(path)


def same(a: float | None, b: float | None) -> bool:
    """Equal to the bit, or both undefined."""
    left, right = (math.nan if x is None else float(x) for x in (a, b))
    return left == right or (math.isnan(left) and math.isnan(right))


def by_id(round: RoundData) -> dict[str, Reading]:
    return {reading.name: reading for reading in round.readings}


def check_ids(value: Any, known: dict[str, Reading]) -> int:
    """Every mapping with an id and a value anywhere in some JSON; how many there were."""
    if isinstance(value, list | tuple):
        return sum(check_ids(item, known) for item in value)
    if not isinstance(value, dict):
        return 0
    found = 0
    if "id" in value and "value" in value:
        reading = known[value["id"]]
        for part in ("value", "low", "high"):
            assert same(value[part], getattr(reading, part)), value["id"]
        found = 1
    return found + sum(check_ids(item, known) for item in value.values())


def check_labels(readings: Iterator[Reading]) -> None:
    """Different estimands have different labels, among those that are shown by one."""
    seen: dict[str, Estimand] = {}
    for reading in readings:
        assert seen.setdefault(label(reading.estimand), reading.estimand) == reading.estimand


def markdown_cells(text: str) -> list[dict[str, str]]:
    """The rows of a Markdown table by its heads, which are all different."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len(set(heads)) == len(heads)
    return [dict(zip(heads, row, strict=True)) for row in rows]


def test_a_round_has_each_estimand_once_and_a_label_of_its_own_for_each(run: RunData) -> None:
    assert not list(run.path.rglob("evals.json"))
    for round in run.rounds:
        written_ = read_json(round.path / "readings.json")
        assert len({row["id"] for row in written_}) == len(written_) > 60
        assert check_ids(written_, by_id(round)) == len(written_)
        check_labels(iter(round.readings))


def test_all_samples_of_a_baseline_round_count(run: RunData) -> None:
    """The defect: 86.2 % of all 32 samples in a table, 87.4 % of the first 8 in the readings."""
    for round in run.rounds:
        rows = round.probe[(round.probe["kind"] == "sample") & (round.probe["correct"].notna())]
        assert (rows.groupby("problem").size() >= 8).all()
        main = rows[rows["family"] == round.main_family]
        assert round.score("pass@1")[0] == pytest.approx(
            main.groupby("problem")["correct"].mean().mean()
        )
    first = run.rounds[0].probe
    sizes = first[first["kind"] == "sample"].groupby("problem").size()
    assert set(sizes) == {16}, "a baseline round that is no larger shows nothing"


def test_the_decisions_numbers_are_the_tables(run: RunData) -> None:
    """What the rule says of a guarded quantity is the reading of the two rounds.

    Rare strategies and the shortcut are picked beside a baseline, and their readings pick beside
    round 0: only there the two are the same number. pass@k at the largest k and the most fallen
    strategy have no reading: block means are shown. The others may show no number of their own.
    """
    picked = {QuantityId.RARE_STRATEGIES, QuantityId.SHORTCUT, QuantityId.SOLVED, QuantityId.ALIVE}
    for round in run.rounds[1:]:
        guards = round.decision["guards"]
        assert len(guards) >= 6
        for guard in guards:
            if not guard["estimand"]:
                assert guard["quantity"] in picked, guard["name"]
                continue
            wanted = Estimand.parse(guard["estimand"])
            after, before = (r.find(wanted) for r in (round, run.rounds[guard["baseline"]]))
            assert after is not None and same(guard["after"], after.value)
            assert before is not None and same(guard["before"], before.value)


def test_a_sentences_numbers_are_those_of_the_guards(run: RunData) -> None:
    for round in run.rounds[1:]:
        guards = {g["name"]: g for g in round.decision["guards"]}
        found = 0
        for reason in round.decision["reasons"]:
            for name, before, after in re.findall(
                r"(?:: |^)([^:;]+?) (-?\d\.\d{3}) -> (-?\d\.\d{3})", reason
            ):
                guard = guards[name]
                assert (f"{guard['before']:.3f}", f"{guard['after']:.3f}") == (before, after)
                found += 1
        assert found


def test_every_view_shows_the_readings(run: RunData, tmp_path: Path) -> None:
    terminal = markdown_cells(rounds_table(run))
    side_by_side = compare([run.path])
    page = unescape(write_report([run.path], tmp_path / "report.html").read_text())
    shown = side_by_side["runs"][run.name]["rounds"]
    for row, round in zip(terminal, run.rounds, strict=True):
        known = by_id(round)
        for measure in MEASURES:
            value, reading = measure.read(round), known.get(measure.of(round).id)
            assert same(value.value, math.nan if reading is None else reading.value)
            cell = shown[str(round.number)][measure.key]
            assert cell["id"] == measure.of(round).id
            assert same(cell["value"], value.value) and same(cell["low"], value.low)
            assert measure.key not in SCORED_TABLE or cell_of(measure, round) in row.values()
        logged = points(run, round)
        for name, reading in known.items():
            assert plain(name) not in logged or logged[plain(name)] == reading.value
        headline = [plain(m.of(round).id) for m in MEASURES if m.read(round).defined]
        assert set(headline) <= set(logged)
        assert label(MEASURES[0].of(round)) in page
    for name, reading in by_id(run.rounds[-1]).items():
        assert name in page and (math.isnan(reading.value) or f"{reading.value:.3g}" in page)
    assert "undefined" not in compare_table(side_by_side)


def cell_of(measure: Measure, round: RoundData) -> str:
    value = measure.read(round)
    interval = measure.key == "pass@1"
    return written(value, measure.unit, interval) if value.defined else DASH


def test_the_monitor_command_shows_the_readings_too(run: RunData, tmp_path: Path) -> None:
    files = []
    for round in run.rounds:
        rows = round.probe[round.probe["kind"] == "sample"].to_dict("records")
        keys = ("problem", "family", "slice", "text", "answer", "correct", "strategy")
        files.append(tmp_path / f"round-{round.number}.jsonl")
        files[-1].write_text(
            "".join(json.dumps({k: plain_value(row[k]) for k in keys}) + "\n" for row in rows)
        )
    watched = monitor(files, plan_rounds=2, settings=[f"main_family={run.rounds[0].main_family}"])
    cells, in_json = markdown_cells(table(watched)), to_json(watched)["rounds"]
    for row, judged, as_json in zip(cells, watched.rounds, in_json, strict=True):
        known = {reading.name: reading for reading in judged.readings}
        assert check_ids(as_json["readings"], known) == len(known)
        check_labels(iter(judged.readings))
        for column in COLUMNS:
            reading = find(judged.readings, column, watched.rule.main_family)
            if reading is not None and not math.isnan(reading.value):
                measure = Measure("", reading.estimand)
                assert written(reading, measure.unit) in row.values(), reading.name
    for round, judged in zip(run.rounds, watched.rounds, strict=True):
        theirs = find(judged.readings, Estimand("accuracy/pass@1", round.main_family), "")
        assert theirs is not None and theirs.value == round.score("pass@1")[0]


def plain_value(value: Any) -> Any:
    return None if value is None or value != value else value


def test_every_headline_statistic_has_its_own_entry() -> None:
    names = [re.sub(r"@(k|n)$", "@n", measure.estimand.statistic) for measure in MEASURES]
    assert set(names) <= set(STATISTICS)
    assert len({(s.title, s.short) for s in STATISTICS.values()}) == len(STATISTICS)
    assert label(Estimand("accuracy/pass@4", "a", "tail")) == (
        "Right at least once (pass@4), a, tail"
    )
    assert label(Estimand("supply/unsolved", EVERY, samples="pool")) == "supply/unsolved"


@pytest.mark.long
def test_the_demo_shows_one_value_per_number_too(tmp_path: Path) -> None:
    """The demo's recipe, shortened, with the embedded model, as `ouroloop run` carries it out.

    Another run on the real libraries is asked the same in test_loop_on_vllm_and_trl.py.
    """
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    settings = ["rounds=1", "name=short", "sampling.problems_per_round=60", "tracking.mlflow=false"]
    command = [sys.executable, "-m", "ouroloop.loop", "run", str(root / "runs/recipes/demo.yaml")]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(
        [*command, "--runs", str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-2000:]
    check_everything(read_run(tmp_path / "short"), tmp_path)


def check_everything(found: RunData, tmp_path: Path) -> None:
    """What does not depend on the recipe of the scripted run."""
    test_a_round_has_each_estimand_once_and_a_label_of_its_own_for_each(found)
    test_a_sentences_numbers_are_those_of_the_guards(found)
    test_every_view_shows_the_readings(found, tmp_path)
    test_the_decisions_numbers_are_the_tables(found)
