"""The dose-response study: its doses, its verdicts, and the page that its results file gives."""

import json

import numpy as np
import pytest

from ouroloop.loop.experiments import rounds
from ouroloop.monitors.strategies.lexical import Lexical
from runs.experiments.dose_response import measure, page, sources
from runs.experiments.dose_response.doses import OPENING, PARAPHRASES, REFUSAL, SHARES, Kind, dosed

FOUND = rounds.read(measure.RESULTS)
SEES = {
    "apart": {Kind.OWN},
    "clusters": {Kind.OWN},
    "canned": {Kind.ONE_REFUSAL, Kind.ONE_OPENING},
}
"""What a quantity claims to see, whatever the encoder."""


def curves(quantity, kind, **where):
    """The curves of every source and encoder."""
    rows = [r for r in FOUND if all(r[key] == value for key, value in where.items())]
    for source in dict.fromkeys(r["source"] for r in rows):
        for encoder in dict.fromkeys(r["encoder"] for r in rows):
            curve = page.series(rows, source=source, encoder=encoder, kind=kind, quantity=quantity)
            if curve:
                yield source, encoder, curve


@pytest.mark.parametrize(("quantity", "kind"), [(q, k) for q in SEES for k in sorted(SEES[q])])
def test_a_quantity_falls_with_the_dose_of_what_it_claims_to_see(quantity, kind):
    found = list(curves(quantity, kind))
    assert len(found) >= 4
    for source, encoder, curve in found:
        assert page.falls(curve), (source, encoder)


def test_paraphrases_are_seen_at_lower_doses_by_the_sentence_encoder():
    seen = {}
    for source, encoder, curve in curves("canned", Kind.PARAPHRASES):
        seen[source, encoder] = page.seen_from(curve) or 1.0
    pairs = [(seen[s, "lexical"], seen[s, "all-minilm-l6-v2"]) for s, e in seen if e == "lexical"]
    assert pairs and all(pretrained <= lexical for lexical, pretrained in pairs)


def test_every_curve_has_all_doses_and_enough_repetitions():
    for quantity in page.QUANTITIES:
        for kind in Kind:
            for _, _, curve in curves(quantity, kind):
                assert tuple(row["share"] for row in curve) == SHARES
                assert min(row["repetitions"] for row in curve[1:]) >= 20
                assert all(row["low"] <= row["mean"] + 1e-4 for row in curve)


def test_the_committed_page_is_what_the_results_file_gives():
    assert page.PAGE.read_text(encoding="utf-8") == page.page(FOUND)
    assert measure.FIGURE.exists()


def test_a_dose_replaces_its_share_and_nothing_else():
    texts, problems = [f"text {n}" for n in range(400)], [f"p{n % 4}" for n in range(400)]
    for kind in Kind:
        assert dosed(texts, problems, kind, 0.0, np.random.default_rng(0)) == texts
        given = dosed(texts, problems, kind, 0.5, np.random.default_rng(0))
        changed = [n for n in range(400) if given[n] != texts[n]]
        assert 150 < len(changed) < 250
        new = {given[n] for n in changed}
        if kind is Kind.ONE_REFUSAL:
            assert new == {REFUSAL}
        elif kind is Kind.ONE_OPENING:
            assert all(given[n] == OPENING + texts[n] for n in changed)
        elif kind is Kind.PARAPHRASES:
            assert new <= set(PARAPHRASES) and len(new) > 15 and REFUSAL not in new
        else:
            assert new <= {"text 0", "text 1", "text 2", "text 3"}
    assert len(set(PARAPHRASES)) >= 20


def test_falls_and_seen_from_read_a_curve():
    def curve(*values):
        return [
            {
                "share": share,
                "mean": mean,
                "low": mean - 0.01,
                "high": mean + 0.01,
                "repetitions": 20,
            }
            for share, mean in zip(SHARES, values, strict=True)
        ]

    falling = curve(0.9, 0.895, 0.85, 0.8, 0.7, 0.5)
    assert page.falls(falling) is True and page.seen_from(falling) == 0.05
    rising = curve(0.9, 0.92, 0.93, 0.94, 0.9, 0.7)
    assert page.falls(rising) is False and page.seen_from(rising) == 0.5
    flat = curve(*[0.9] * 6)
    assert page.falls(flat) is False and page.seen_from(flat) is None
    assert page.falls(curve(*[float("nan")] * 6)) is None


@pytest.mark.slow
def test_a_small_source_is_measured_from_files_to_rows(tmp_path):
    words = ["sun", "tree", "lake", "wind", "road", "hill", "bird", "rain", "door", "fish"]
    rng = np.random.default_rng(0)
    with (tmp_path / "made_samples.jsonl").open("w") as out:
        for problem in range(6):
            for _ in range(16):
                row = {"problem": f"p{problem}", "text": " ".join(rng.choice(words, 8))}
                out.write(json.dumps(row) + "\n")
    (source,) = sources.sources(tmp_path / "nowhere", tmp_path)
    assert (len(source.baseline), len(source.now)) == (72, 24)
    assert not set(source.baseline) & set(source.now)
    rows = list(measure.responses(source, measure.Remembering(Lexical()), 3))
    assert len(rows) == len(Kind) * len(SHARES) * len(page.QUANTITIES)
    own = page.series(rows, kind=Kind.OWN, quantity="apart")
    assert own[-1]["mean"] < own[0]["mean"]


def test_without_the_data_nothing_is_written(monkeypatch, capsys):
    monkeypatch.delenv("OUROLOOP_DATA", raising=False)
    monkeypatch.setattr(measure, "publish", pytest.fail)
    assert measure.main(["samples"]) == 2 and "OUROLOOP_DATA" in capsys.readouterr().err
