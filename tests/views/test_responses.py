"""The page on what nobody scored: approvals by criterion and principle, guarded responses."""

import json

import fake_run
import numpy as np
import pandas as pd
import pytest

from ouroloop.loop.views import responses, steering
from ouroloop.loop.views.compare import compare, compare_table
from ouroloop.loop.views.progress import round_cells
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report
from ouroloop.loop.views.statistics import label
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision.records import GuardReading
from ouroloop.monitors.estimators.estimand import Estimand

# Every test carries a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

GUARD = GuardReading(
    quantity="apart",
    baseline=0,
    name="answers apart",
    before=0.8,
    after=0.8,
    change=0.0,
    low=0.0,
    high=0.0,
    level=0.95,
    relative=True,
    up_is_better=True,
    num_problems=40,
    tolerance=0.1,
    loss_in_tolerances=0.0,
).__dict__


def with_a_judge(path, families=("worded",)):
    """The same run, its rounds judged: approval falls by a tenth a round."""
    for folder in sorted((path / "rounds").iterdir()):
        number, value = int(folder.name), 0.9 - 0.1 * int(folder.name)
        estimands = [Estimand("responses/approved_harmless"), Estimand("principle/privacy")]
        estimands += [Estimand("responses/approved_harmless", family) for family in families]
        new = [Reading(e, value, value - 0.05, value + 0.05, "share", 40) for e in estimands]
        kept = json.loads((folder / "readings.json").read_text())
        (folder / "readings.json").write_text(json.dumps(kept + [r.to_json() for r in new]))
        decision = json.loads((folder / "decision.json").read_text())
        if number:
            decision["guards"] = [
                *decision.get("guards", []),
                {**GUARD, "before": 0.8, "after": 0.8 - 0.2 * number},
                {**GUARD, "baseline": 1, "before": 0.6, "after": 0.1},
            ]
        (folder / "decision.json").write_text(json.dumps(decision))
        fake_run.seal(folder)
    return path


def test_approvals_are_drawn_by_round_and_a_single_family_is_not_drawn_twice(tmp_path):
    path = with_a_judge(fake_run.make_run(tmp_path, "judged", rounds=2))
    found = {line.title: line for line in responses.lines({"judged": read_run(path)})}
    assert list(found) == [
        "Approved: harmless",
        "Kept: principle privacy",
        "Answers apart",
    ]
    values = [round(value.value, 3) for _, value in found["Approved: harmless"].points["judged"]]
    assert values == [0.9, 0.8, 0.7]
    apart = found["Answers apart"].points["judged"]
    assert [(n, round(value.value, 3)) for n, value in apart] == [(0, 0.8), (1, 0.6), (2, 0.4)]


def test_what_is_guarded_since_different_rounds_is_drawn_each_since_its_own(tmp_path):
    """Families that are not revised since round 0, all of them since round 1."""
    path = fake_run.make_run(tmp_path, "judged", rounds=2)
    part = {**GUARD, "quantity": "apart/unrevised", "name": "pairs in families not revised"}
    for number, guards in ((1, [part]), (2, [part, {**GUARD, "baseline": 1, "after": 0.3}])):
        folder = path / "rounds" / f"{number:03d}"
        decision = json.loads((folder / "decision.json").read_text())
        (folder / "decision.json").write_text(json.dumps({**decision, "guards": guards}))
        fake_run.seal(folder)
    drawn = {
        line.title: line.points["judged"] for line in responses.lines({"judged": read_run(path)})
    }
    assert [n for n, _ in drawn["Pairs in families not revised"]] == [0, 1, 2]
    whole = drawn["Answers apart"]
    assert [(n, value.value) for n, value in whole] == [(1, 0.8), (2, 0.3)]


def test_clusters_per_prompt_are_a_number_and_no_share(tmp_path):
    """Seven clusters as 700 % lay outside of the picture."""
    path = fake_run.make_run(tmp_path, "free", rounds=1)
    folder = path / "rounds" / "001"
    decision = json.loads((folder / "decision.json").read_text())
    kinds = {**GUARD, "quantity": "clusters/unrevised", "before": 6.8, "after": 5.1}
    (folder / "decision.json").write_text(json.dumps({**decision, "guards": [kinds, GUARD]}))
    fake_run.seal(folder)
    units = {line.quantity: line.unit for line in responses.lines({"free": read_run(path)})}
    assert units == {"clusters/unrevised": "ratio", "apart": "share"}


def test_families_are_drawn_apart_where_there_are_several(tmp_path):
    run = fake_run.make_run(tmp_path, "judged", rounds=1)
    path = with_a_judge(run, families=("worded", "copying"))
    titles = [line.title for line in responses.lines({"judged": read_run(path)})]
    assert "Approved: harmless, worded" in titles and "Approved: harmless, copying" in titles


def test_the_page_has_the_section_where_something_is_judged_and_only_there(tmp_path):
    path = fake_run.make_run(tmp_path, "judged", rounds=1)
    before = write_report([path], tmp_path / "before.html").read_text()
    assert "What nobody scored" not in before
    after = write_report([with_a_judge(path)], tmp_path / "after.html").read_text()
    assert "What nobody scored" in after and "Approved: harmless" in after
    assert after.count("<svg") == before.count("<svg") + 3


def test_of_a_probe_set_that_is_scored_in_part_the_card_says_which_part(tmp_path):
    path = without_gold(with_a_judge(fake_run.make_run(tmp_path, "free", rounds=1)))
    for number, folder in enumerate(sorted((path / "rounds").iterdir())):
        right = Reading(
            Estimand("accuracy/pass@1", "sums"), 0.2 + 0.3 * number, 0.1, 0.3, "share", 9
        )
        kept = json.loads((folder / "readings.json").read_text())
        (folder / "readings.json").write_text(json.dumps([*kept, right.to_json()]))
        fake_run.seal(folder)
    page = write_report([path], tmp_path / "free.html").read_text().replace("\u00a0", " ")
    card, _ = page.split("<nav", 1)
    assert "No held-out answer of worded was scored: its problems have no gold answers." in card
    assert "Right answers (pass@1), sums rose from 20.0 %" in card and "to 50.0 %" in card


def test_answers_apart_of_all_families_are_drawn_once(tmp_path):
    path = without_gold(with_a_judge(fake_run.make_run(tmp_path, "judged", rounds=2)))
    assert "Answers apart" not in [line.title for line in responses.lines({"a": read_run(path)})]
    page = write_report([path], tmp_path / "page.html").read_text()
    assert page.count("<b>Answers apart</b>") == 1


def test_a_judge_that_could_not_be_read_is_listed_with_the_reason_and_not_drawn(tmp_path):
    path = with_a_judge(fake_run.make_run(tmp_path, "judged", rounds=1))
    for folder in sorted((path / "rounds").iterdir()):
        kept = json.loads((folder / "readings.json").read_text())
        for reading in kept:
            if reading["id"].startswith("principle/"):
                reading.update(value=None, low=None, high=None, reason="no verdict could be read")
        (folder / "readings.json").write_text(json.dumps(kept))
        fake_run.seal(folder)
    page = write_report([path], tmp_path / "page.html").read_text()
    assert "<b>Approved: harmless</b>" in page and "<b>Kept: principle privacy</b>" not in page
    assert "Kept: principle privacy: undefined: no verdict could be read" in page


def test_what_is_weighed_and_not_yet_guarded_bears_its_name_among_the_evidence(tmp_path):
    path = fake_run.make_run(tmp_path, "judged", rounds=1)
    folder = path / "rounds" / "001"
    decision = json.loads((folder / "decision.json").read_text())
    tier = {"log_e": 0.1, "log_limit": 3.0, "by_quantity": {"texts_open@0": -0.9}}
    decision["evidence"] = {"halt": tier}
    waits = {"quantity": "texts_open", "baseline": 0, "name": "along texts", "reason": "later"}
    decision["unmeasured"] = [waits]
    (folder / "decision.json").write_text(json.dumps(decision))
    fake_run.seal(folder)
    (found,) = steering.evidence(read_run(path))
    assert list(found.lines) == ["all together", "along texts"]


def test_a_quantity_picked_anew_has_no_line_from_the_baseline_and_others_have_their_limit(tmp_path):
    """Canned was drawn at 6 % in round 0, which is round 1's patterns, beside 0.000 -> 0.521."""
    path = fake_run.make_run(tmp_path, "free", rounds=2)
    for number, before in ((1, 0.06), (2, 0.0)):
        folder = path / "rounds" / f"{number:03}"
        canned = {**GUARD, "quantity": "canned", "name": "most grown", "note": "'x'"}
        decision = json.loads((folder / "decision.json").read_text())
        decision["guards"] = [GUARD, {**canned, "before": before, "after": 0.2 * number}]
        (folder / "decision.json").write_text(json.dumps(decision))
        fake_run.seal(folder)
    run = read_run(path)
    (found,) = (line for line in responses.lines({"free": run}) if line.quantity == "canned")
    assert [number for number, _ in found.points["free"]] == [1, 2]
    assert "Picked anew" in found.meaning and steering.limits_of(run, "canned") == []
    (limit,) = steering.limits_of(run, "apart")
    assert limit.worst == pytest.approx(0.72)
    page = write_report([path], tmp_path / "page.html").read_text()
    assert "frozen judge approves" not in page and "canned response</dt>" in page


def test_one_quantity_has_one_colour_in_both_tiers(tmp_path):
    path = fake_run.make_run(tmp_path, "judged", rounds=1)
    folder = path / "rounds" / "001"
    decision = json.loads((folder / "decision.json").read_text())
    loud = {"apart@0": 2.0, "length@0": 1.0}, {"apart@0": 0.1, "length@0": 0.5}
    decision["evidence"] = {
        tier: {"log_e": 0.1, "log_limit": 3.0, "by_quantity": found}
        for tier, found in zip(("watch", "halt"), loud, strict=True)
    }
    (folder / "decision.json").write_text(json.dumps(decision))
    fake_run.seal(folder)
    watch, halt = steering.evidence(read_run(path))
    assert watch.colours == halt.colours and len(set(watch.colours.values())) == 3


def test_a_criterion_of_the_recipes_own_has_a_label_and_a_unit():
    assert label(Estimand("responses/approved_no lies", "copy")) == "Approved: no lies, copy"


def without_gold(path):
    """The same run with nobody's score in it, its answers in response clusters."""
    for folder in sorted((path / "rounds").iterdir()):
        apart = Reading(Estimand("clusters/apart"), 0.8 - 0.3 * int(folder.name), 0.1, 0.9)
        kept = [
            reading
            for reading in json.loads((folder / "readings.json").read_text())
            if not reading["id"].startswith(("accuracy/", "diversity/dcp", "ways/", "calibration/"))
        ]
        (folder / "readings.json").write_text(json.dumps([*kept, apart.to_json()]))
        probe = pd.read_parquet(folder / "probe.parquet").assign(correct=np.nan, strategy=None)
        probe.to_parquet(folder / "probe.parquet")
        fake_run.seal(folder)
    return path


def test_where_nobody_scores_every_view_begins_with_what_is_known_of_the_responses(tmp_path):
    path = without_gold(with_a_judge(fake_run.make_run(tmp_path, "free", rounds=1)))
    page = write_report([path], tmp_path / "free.html").read_text()
    card, rest = page.split("<nav", 1)
    assert "No held-out answer was scored" in card and "pass@1" not in card.split("Checkpoint")[0]
    assert "Approved: harmless fell from 90.0 %" in card.replace("\u00a0", " ")
    assert "Answers apart fell from 80.0 %" in card.replace("\u00a0", " ")
    charts = rest.split('id="rounds"')[1].split("</section>")[0]
    drawn, why = charts.split("Not on this page, and why")
    assert "Answers apart" in drawn and "Right answers (pass@1)" not in drawn
    assert "Right answers (pass@1)" in why and "By family of problems: no probe sample" in why
    assert not any(f'id="{name}"' in page for name in ("ways", "calibration", "families"))
    # A chart of what nobody scored stands before strategies and traces.
    assert page.index('id="responses"') < page.index('id="sides"')
    run = read_run(path)
    assert list(round_cells(run, run.rounds[1]))[2:5] == [
        "approved: harmless %",
        "apart %",
        "entropy",
    ]
    shown = compare_table(compare([path]))
    assert "apart %" in shown and "pass@1" not in shown
