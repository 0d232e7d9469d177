from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import pandas as pd
import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.views import side_by_side, steering
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.measures import BY_KEY, strategy_shares, ways_shares
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

ALLOWED_URLS = ("http://www.w3.org/",)


class Tags(HTMLParser):
    """Every element with its attributes, and whether all were closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page(arms: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(
        list(arms), tmp_path_factory.mktemp("page") / "deep" / "report.html"
    ).read_text()


def test_the_page_loads_nothing_and_runs_nothing(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    assert not {"script", "link", "iframe", "object", "img"} & {tag for tag, _ in tags.seen}
    attributes = [pair for _, given in tags.seen for pair in given.items()]
    references = [
        value or "" for name, value in attributes if name in ("href", "xlink:href", "src")
    ]
    assert [r for r in references if not r.startswith("#")] == []
    assert [
        u for u in re.findall(r"https?://[^\s\"'<)]+", page) if not u.startswith(ALLOWED_URLS)
    ] == []
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_both_arms_and_every_section_are_on_the_page(page: str) -> None:
    headings = (
        "When and why|Over the rounds|Strategies in use|Ways per problem|The same problem|Does it"
        " know|By family|Decisions|All rounds|Why samples were rejected|Sample traces"
    )
    for heading in (headings + "|Training loss|Every reading|What the numbers mean").split("|"):
        assert heading in page
    assert (
        page.count("<svg") == 21 + 2 + 2 + 2 + 4 + 2
    )  # curves, areas, ways, reliability, families, loss
    assert "no, only noted" in page and "round 4 trained from round 3" in page


def test_model_text_cannot_become_markup(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "hostile", rounds=1)
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    folder = path / "rounds" / "001"
    chains = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for chain in chains:
        chain["draft"]["completion"]["text"] = attack
    (folder / "samples.jsonl").write_text("".join(json.dumps(c) + "\n" for c in chains))
    verdicts = pd.read_parquet(folder / "verdicts.parquet").assign(
        question=attack, answer=attack, strategy=attack
    )
    verdicts.to_parquet(folder / "verdicts.parquet")
    probe = pd.read_parquet(folder / "probe.parquet")
    probe.assign(strategy=attack).to_parquet(folder / "probe.parquet")
    fake_run.seal(folder)
    page = write_report([path], tmp_path / "r.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert "alert(1)" in page
    assert not any(tag in ("script", "img") for tag, _ in tags.seen)
    assert not any(name.startswith("on") for _, attributes in tags.seen for name in attributes)


def test_the_card_begins_with_the_checkpoint_and_an_action_says_whether_it_helped(
    page: str, arms: tuple[Path, Path]
) -> None:
    for path in arms:
        run = read_run(path)
        card = page.split(f"{run.name}<span", 1)[1]
        first = f"<b>Checkpoint to take:</b> round {run.best_round} (pass@1 "
        assert first in card.split("rounds of training")[0]
        assert "), <code>" + run.place(run.best_round) in card.split("rounds of training")[0]
    # The guarded arm acted once; what the other one only noted could not help.
    assert page.count("<b>Did it help:</b>") == 1
    assert "<b>Did it help:</b> no later round has audited it." in page


def test_an_undefined_number_says_so_with_its_reason(page: str) -> None:
    assert "undefined: no probe sample has a readable answer" in page
    assert not re.search(r">\s*nan\b", page, re.IGNORECASE)


def test_a_run_whose_first_round_is_not_finished_still_has_a_page(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "young", rounds=0)
    (path / "rounds" / "000" / "MANIFEST.json").unlink()
    assert "No round is finished yet." in write_report([path], tmp_path / "r.html").read_text()


def test_a_run_that_kept_nothing_says_so(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "starved", rounds=1)
    verdicts = path / "rounds" / "001" / "verdicts.parquet"
    pd.read_parquet(verdicts).assign(kept=False).to_parquet(verdicts)
    fake_run.seal(verdicts.parent)
    assert any("Not one of 200 samples passed" in line for line in sentences(read_run(path)))


def test_the_account_tells_the_guarded_from_the_unguarded_arm(arms: tuple[Path, Path]) -> None:
    guarded, unguarded = (" ".join(sentences(read_run(path))) for path in arms)
    assert "reinject after round 3" in guarded and "nothing was carried out" not in guarded
    assert "nothing was carried out" in unguarded
    assert "7 rounds of training" in guarded and "intervals do not overlap" in guarded


def test_a_number_that_stayed_is_not_said_to_have_risen(tmp_path: Path, monkeypatch) -> None:
    run = read_run(fake_run.make_run(tmp_path, "same", rounds=1))
    value = BY_KEY["dcp"].read(run.rounds[0])
    monkeypatch.setattr(type(BY_KEY["dcp"]), "read", lambda self, round: value)
    (said,) = [line for line in sentences(run) if "(DCP)" in line]
    assert "(DCP) went from" in said


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [0, 1])
def test_the_page_of_a_failed_run_says_why(tmp_path: Path, rounds: int) -> None:
    path = fake_run.make_failed_run(tmp_path, rounds=rounds)
    if rounds == 0:
        (path / "rounds" / "000" / "MANIFEST.json").unlink()
    page = write_report([path], tmp_path / "r.html").read_text()
    message = (
        "The run failed before its end: EngineError: the engine ended CUDA &lt;out of memory&gt;"
    )
    assert message in page and ">failed</span>" in page and "can be resumed" not in page
    fake_run.add_events(path, fake_run.STARTED, fake_run.FINISHED)
    page = write_report([path], tmp_path / "r.html").read_text()
    assert "EngineError" not in page and ">failed</span>" not in page


def test_a_report_of_no_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run was given"):
        write_report([], tmp_path / "r.html")


def test_hundreds_of_strategies_are_drawn_as_the_common_ones_and_all_others(monkeypatch):
    from ouroloop.loop.views import figures, measures

    many = {f"s{i}": 2.0**-i for i in range(1, 300)}
    monkeypatch.setattr(measures, "strategy_shares", lambda round, correct_only=False: many)
    names = measures.common_strategies([object()], len(figures.BANDS))
    assert names == [*(f"s{i}" for i in range(1, len(figures.BANDS))), measures.ALL_OTHERS]
    shares = measures.grouped_shares(object(), names)
    assert sum(shares.values()) == pytest.approx(sum(many.values()))
    assert list(shares) == names
    few = measures.common_strategies([object()], 1000)
    assert few == list(many) and measures.ALL_OTHERS not in measures.grouped_shares(object(), few)


def steered(path: Path) -> Path:
    """The run with decisions as the rule writes them: evidence, a driver, tolerances."""
    for folder in sorted((path / "rounds").iterdir()):
        number = int(folder.name)
        guard = {
            "quantity": "diversity",
            "baseline": 0,
            "name": "distinct pairs",
            "estimand": "diversity/dcp:worded",
            "before": 0.4,
            "after": 0.3,
            "change": -0.25,
            "low": -0.4,
            "high": -0.1,
            "level": 0.95,
            "num_problems": 40,
            "loss_in_tolerances": 2.5,
            "baseline_se": 0.01,
            "tolerance": 0.1,
            "relative": True,
            "up_is_better": True,
            "note": "",
        }
        evidence = {
            tier: {
                "log_e": 0.5 * number,
                "log_limit": limit,
                "alpha": 0.05,
                "driver": "diversity@0",
                "since": 1,
                "by_quantity": {"diversity@0": 0.7 * number, "accuracy@0": 0.0},
            }
            for tier, limit in (("watch", 1.8), ("halt", 3.7))
        }
        decision = json.loads((folder / "decision.json").read_text())
        decision |= {"guards": [guard], "evidence": evidence}
        (folder / "decision.json").write_text(json.dumps(decision))
        fake_run.seal(folder)
    return path


def test_evidence_limits_and_marks_are_drawn_with_the_numbers_of_the_decision(tmp_path: Path):
    path = steered(fake_run.make_run(tmp_path, "steered", rounds=4))
    run = read_run(path)
    assert [mark[:2] for mark in steering.marks(run)] == [(3, "reinject")]
    watch, halt = steering.evidence(run)
    # A quantity that nobody bet on is not drawn.
    assert list(watch.lines) == ["all together", "distinct pairs"] == list(halt.lines)
    assert watch.limits[0] == (0, 1.8)
    (limit,) = steering.limits(run, BY_KEY["dcp"])
    assert limit.worst == pytest.approx(0.36) and steering.limits(run, BY_KEY["pass@1"]) == []
    page = write_report([path], tmp_path / "r.html").read_text()
    # exp(0.5 * 3) and exp(0.7 * 3): what a point says is what the decision file says.
    assert "all together, round 3: e = 4.48" in page
    assert "distinct pairs, round 3: e = 8.17" in page
    assert page.index("When and why it was steered") < page.index("Over the rounds")


def test_every_point_says_the_number_of_its_reading(page: str, arms: tuple[Path, Path]) -> None:
    run = read_run(arms[0])
    value = BY_KEY["pass@1"].read(run.rounds[2])
    text = BY_KEY["pass@1"].text(value)
    assert f"{run.name}, round 2: {text}" in page
    assert 'class="tip" tabindex="-1"' in page


def test_ways_per_problem_fall_where_strategies_die_within_problems(arms) -> None:
    guarded, unguarded = (read_run(path) for path in arms)
    first, last = unguarded.rounds[0], unguarded.rounds[-1]
    assert sum(ways_shares(first).values()) == pytest.approx(1)
    assert ways_shares(last)["three or more"] < ways_shares(first)["three or more"]
    ways = BY_KEY["ways"]
    assert ways.read(last).value < ways.read(guarded.rounds[-1]).value
    several = ways_shares(last)["two ways"] + ways_shares(last)["three or more"]
    assert ways.read(last).value == pytest.approx(several)


def test_the_same_problems_are_shown_in_every_chosen_round(arms) -> None:
    run = read_run(arms[1])
    rows = side_by_side.rows(run)
    assert len(rows) == 3
    for row in rows:
        assert [cell.round for cell in row.cells] == sorted({0, 3, run.best_round, 7})
        for cell in row.cells:
            shown = sum(way.count for way in cell.ways)
            assert shown == cell.samples or (cell.more and shown < cell.samples)
            counts = [way.count for way in cell.ways]
            assert counts == sorted(counts, reverse=True)
            assert all(way.right is None or way.right <= way.count for way in cell.ways)


def test_free_text_is_grouped_by_response_cluster(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "free", rounds=1)
    for folder in sorted((path / "rounds").iterdir()):
        probe = pd.read_parquet(folder / "probe.parquet")
        labels = ["refusal" if i % 4 else f"own {i % 3}" for i in range(len(probe))]
        probe = probe.assign(strategy=None, correct=float("nan"), cluster=labels)
        probe.to_parquet(folder / "probe.parquet")
        fake_run.seal(folder)
    shares = strategy_shares(read_run(path).rounds[-1])
    assert shares["refusal"] > 0.5 and sum(shares.values()) == pytest.approx(1)
    rows = side_by_side.rows(read_run(path))
    ways = [way for row in rows for cell in row.cells for way in cell.ways]
    assert ways and {way.right for way in ways} == {None}
    assert "refusal" in {way.label for way in ways}


def test_what_nobody_scored_is_grouped_by_cluster_before_strategy() -> None:
    table = pd.DataFrame(
        {"strategy": ["text-1", "text-2"], "cluster": ["near/0"] * 2, "text": ["a", "b"]}
    )
    assert list(side_by_side._labels(table.assign(correct=float("nan")))) == ["near/0"] * 2
    assert list(side_by_side._labels(table.assign(correct=[1.0, None]))) == ["text-1", "text-2"]


def test_strategies_of_one_text_each_are_not_drawn(monkeypatch) -> None:
    from ouroloop.loop.views import figures, measures

    texts = {f"text-{i}": 1 / 300 for i in range(300)}
    monkeypatch.setattr(measures, "strategy_shares", lambda round, correct_only=False: texts)
    assert measures.common_strategies([object()], len(figures.BANDS)) == []


def test_a_best_round_that_others_exceed_is_not_called_the_best(tmp_path: Path) -> None:
    run = read_run(fake_run.make_run(tmp_path, "collapsing", guarded=False))
    (line,) = [line for line in sentences(run) if line.startswith("Right answers")]
    value = BY_KEY["pass@1"].read
    highest = max(value(round).value for round in run.rounds)
    best = run.round(run.best_round)
    assert highest > value(best).value, "the story's best round was rejected"
    assert f"in round {best.number}, the best that the decision rule did not reject (" in line


def test_a_run_that_trained_nothing_has_no_empty_sections(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "young", rounds=0)
    page = write_report([path], tmp_path / "r.html").read_text()
    for anchor in ("rejected", "traces", "loss"):
        assert f'id="{anchor}"' not in page and f'href="#{anchor}"' not in page
    assert "Training loss: no round was trained here" in page
    assert "<th>kept/sampled</th>" not in page and "<th>two ways %</th>" in page


def test_axes_of_entropies_name_their_unit_and_measures_have_the_fields_names(page: str) -> None:
    assert ">nats</text>" in page
    for name in ("NLL on real text", "False acceptance", "Critic&#39;s balanced accuracy"):
        assert f"<dt>{name}</dt>" in page
    assert "Share of held-out problems whose greedy answer (temperature 0) is right." in page


def test_a_halted_run_says_so(tmp_path: Path) -> None:
    path = fake_run.make_run(tmp_path, "ended", rounds=2)
    folder = path / "rounds" / "002"
    decision = json.loads((folder / "decision.json").read_text()) | {"action": "halt"}
    (folder / "decision.json").write_text(json.dumps(decision))
    fake_run.seal(folder)
    assert ">halted</span>" in write_report([path], tmp_path / "r.html").read_text()
