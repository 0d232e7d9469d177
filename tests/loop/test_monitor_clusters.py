"""`ouroloop monitor` on traces that nobody has scored: response clusters, and templates."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from ouroloop.loop.__main__ import main
from ouroloop.monitors.decision import free
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.metrics.apart import apart
from ouroloop.monitors.traces.clusters import TraceClusters, When
from ouroloop.monitors.traces.reader import TraceError, read_traces

REFUSAL = "I'm sorry, but I can't help with that."
WORDS = ("river", "stone", "bread", "lamp", "door", "garden", "music", "winter", "paper", "silver")


def trace_file(path, seed, num_samples, canned=0.0, **more):
    """One round: a share `canned` of the texts is one refusal, the others are drawn words."""
    draw = random.Random(seed)
    with path.open("w") as file:
        for number in range(12):
            for _ in range(num_samples):
                text = f"{WORDS[number % 10]} {' '.join(draw.choices(WORDS, k=12))}."
                if draw.random() < canned:
                    text = REFUSAL
                file.write(json.dumps({"problem": f"p{number}", "text": text, **more}) + "\n")
    return path


@pytest.fixture
def unscored(tmp_path):
    doses = (0.0, 0.0, 0.5)
    return [
        trace_file(tmp_path / f"r{i}.jsonl", i, 8 if i else 16, dose)
        for i, dose in enumerate(doses)
    ]


def share_of_commonest(view):
    _, counts = np.unique(view.probe.cluster.astype(str), return_counts=True)
    return counts.max() / counts.sum()


def test_clusters_are_fitted_on_the_first_file_and_frozen(unscored):
    traces = read_traces(unscored)
    for view in traces.views:
        assert all(isinstance(label, str) for label in view.probe.cluster)
    assert share_of_commonest(traces.views[1]) < 0.4
    assert share_of_commonest(traces.views[2]) == pytest.approx(0.5, abs=0.1)
    assert any("fitted on 192 of round 0's 192 texts by the encoder" in n for n in traces.notes)
    assert any("too high by at most about 0.05" in note for note in traces.notes)
    alone = read_traces([unscored[0], unscored[2]])
    assert alone.views[1].probe.cluster.tolist() == traces.views[2].probe.cluster.tolist()


def test_clusters_per_prompt_are_not_guarded_beside_the_answers_that_fitted_them(
    unscored, tmp_path
):
    """Fresh answers of the same model would show fewer clusters, by more than is tolerated."""
    first, second, _ = read_traces(unscored).views
    assert (first.fits_clusters, second.fits_clusters) == (True, False)
    decision = DecisionRule("default").decide(second, first)
    why = {entry.quantity: entry.reason for entry in decision.unmeasured}
    assert why["clusters"] == free.FITTED
    assert "apart" in {guard.quantity for guard in decision.guards}
    # Fitted on too few for a prompt's mean, or the rows' own: nothing is too good then.
    few = [trace_file(tmp_path / f"few{i}.jsonl", i, 4) for i in range(2)]
    own = [trace_file(tmp_path / f"own{i}.jsonl", i, 12, cluster=f"{i}") for i in range(2)]
    for files in (few, own):
        first, second = read_traces(files).views
        decision = DecisionRule("default").decide(second, first)
        assert "clusters" in {guard.quantity for guard in decision.guards}


def test_half_of_a_large_baseline_is_left_to_the_fit_alone(tmp_path):
    """Fresh answers look as unlike as those that are measured; what others need stays whole."""
    files = [trace_file(tmp_path / f"r{i}.jsonl", i, 8 if i else 25) for i in range(2)]
    with files[0].open("a") as file:
        for number in range(30):
            row = {"problem": "easy", "text": f"{number} is right", "correct": True}
            file.write(json.dumps({**row, "kept": True}) + "\n")
        file.write('{"problem": "p0", "text": "kept", "kept": true}\n')
    first, second = read_traces(files).views
    counted = Counter(first.probe.problem)
    assert counted == {"easy": 30} | {f"p{number}": 13 for number in range(12)}
    assert len(second.probe) == 96 and first.pool is not None and len(first.pool.problem) == 31
    assert not first.fits_clusters
    decision = DecisionRule("default").decide(second, first)
    assert {"apart", "clusters"} <= {guard.quantity for guard in decision.guards}
    notes = read_traces(files).notes
    assert any("fitted on 175 of round 0's 331 texts" in note for note in notes)
    assert any("alone: 145 of round 0's samples" in note for note in notes)
    # Whatever the order of the rows.
    lines = files[0].read_text().splitlines()
    random.Random(0).shuffle(lines)
    files[0].write_text("\n".join(lines))
    again = read_traces(files).views[0].probe
    assert sorted(again.text) == sorted(first.probe.text)


@pytest.mark.slow
def test_what_is_measured_is_not_too_good_where_the_fit_has_its_own_half(tmp_path):
    """An unchanged model, twenty times: pairs apart at the baseline less those of a fresh round."""
    gaps = []
    for seed in range(20):
        files = [
            trace_file(tmp_path / f"r{i}.jsonl", 2 * seed + i, 24 if i == 0 else 8)
            for i in range(2)
        ]
        sides = [apart(view.probe) for view in read_traces(files).views]
        gaps.append(sides[0].value - sides[1].value)
    mean, error = np.mean(gaps), np.std(gaps, ddof=1) / np.sqrt(len(gaps))
    # Fitted and measured at once they are 0.019 (standard error 0.003) more apart.
    assert abs(mean) < 2 * error < 0.01


def test_rows_that_name_their_clusters_keep_them(tmp_path):
    own = trace_file(tmp_path / "r0.jsonl", 0, 12, cluster="mine")
    (view,) = read_traces([own]).views
    assert set(view.probe.cluster) == {"mine"}


def test_scored_traces_have_clusters_only_when_asked(tmp_path):
    scored = trace_file(tmp_path / "r0.jsonl", 0, 12, correct=True)
    (plain,) = read_traces([scored]).views
    assert set(plain.probe.cluster) == {None}
    with scored.open("a") as file:
        file.write('{"problem": "free", "text": "one more"}\n')
    (mixed,) = read_traces([scored]).views
    assert None not in set(mixed.probe.cluster)
    (asked,) = read_traces([scored], clusters=TraceClusters(when=When.ALWAYS)).views
    assert None not in set(asked.probe.cluster)


def test_a_baseline_of_few_samples_is_said_to_show_subjects(tmp_path):
    few = trace_file(tmp_path / "r0.jsonl", 0, 4)
    (note,) = [note for note in read_traces([few]).notes if "a usual problem has" in note]
    assert "4 texts in round 0; from 12 on" in note


def test_rows_without_a_text_have_no_cluster_and_blank_ones_end_nothing(tmp_path):
    path = tmp_path / "r0.jsonl"
    trace_file(path, 0, 12)
    with path.open("a") as file:
        file.write('{"problem": "p0"}\n{"problem": "p0", "text": " "}\n')
    (view,) = read_traces([path]).views
    assert view.probe.cluster[-2:].tolist() == [None, "blank"]
    path.write_text('{"problem": "p0", "text": ""}\n' * 3)
    traces = read_traces([path])
    assert set(traces.views[0].probe.cluster) == {None}
    assert any("no response clusters" in note for note in traces.notes)


@pytest.mark.slow
def test_strategies_by_templates_are_learned_from_the_first_file(tmp_path, unscored):
    traces = read_traces(unscored, "templates")
    for view in traces.views:
        assert all(isinstance(name, str) for name in view.probe.strategy)
    alone = read_traces([unscored[0], unscored[2]], "templates").views[1]
    assert alone.probe.strategy.tolist() == traces.views[2].probe.strategy.tolist()
    nothing = tmp_path / "none.jsonl"
    nothing.write_text('{"problem": "p0", "text": "..."}\n')
    notes = read_traces([nothing], "templates").notes
    assert any("'templates' names none" in note for note in notes)
    with pytest.raises(TraceError, match="templates"):
        read_traces(unscored, "template")


@pytest.mark.slow
def test_the_command_takes_an_encoder_and_refuses_what_is_none(unscored, tmp_path, capsys):
    paths = [str(path) for path in unscored]
    for arguments in (["--clusters", "lexical"], [], ["--strategies", "templates"]):
        assert main(["monitor", *paths, *arguments]) in (0, 3)
        assert "by the encoder 'lexical'" in capsys.readouterr().out
    assert main(["monitor", *paths, "--clusters", "none"]) in (0, 3)
    assert "encoder" not in capsys.readouterr().out
    assert main(["monitor", *paths, "--clusters", str(tmp_path / "nowhere")]) not in (0, 3)
    assert "expected lexical, all-minilm-l6-v2, or the folder" in capsys.readouterr().err


def test_one_text_is_no_texts(tmp_path):
    few = trace_file(tmp_path / "r0.jsonl", 0, 1)
    assert any("a usual problem has 1 text in round 0" in x for x in read_traces([few]).notes)
