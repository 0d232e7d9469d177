"""`ouroloop monitor` on traces that nobody has scored: response clusters, and templates."""

import json
import random

import numpy as np
import pytest

from ouroloop.loop.__main__ import main
from ouroloop.monitors.decision import free
from ouroloop.monitors.decision.rule import DecisionRule
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
    assert any("fitted on round 0's 192 texts by the encoder 'lexical'" in n for n in traces.notes)
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
