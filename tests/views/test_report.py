from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import pandas as pd
import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.reader import read_run
from ouroloop.loop.views.report import write_report

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
        "Over the rounds|Strategies in use|Does it know|By family|Decisions|All rounds|Why samples"
        " were rejected|Sample traces"
    )
    for heading in (headings + "|Training loss|Every reading|What the numbers mean").split("|"):
        assert heading in page
    assert page.count("<svg") == 15 + 2 + 2 + 4 + 2  # curves, areas, reliability, families, loss
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
