"""Response clusters in a run: learned on round 0, frozen, in the tables and what monitors see."""

import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ouroloop.evals.tasks import Capability, Problem
from ouroloop.loop.config import ClusterConfig
from ouroloop.loop.errors import CheckpointError, RunStateError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.stages import preflight
from ouroloop.loop.stages.clustering import Responses, responses_of
from ouroloop.loop.stages.remedy import top_cluster
from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.responses import Pretrained

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))

WORDS = ("river", "stone", "bread", "lamp", "door", "garden", "music", "winter", "paper", "silver")


def problem(number, answer=None):
    return Problem(id=f"p{number}", question=f"Write {number}.", answer=answer, family="text")


def pairs(num, seed):
    draw = random.Random(seed)
    return [(problem(n % 4), " ".join(draw.choices(WORDS, k=10))) for n in range(num)]


class Unaided:
    capabilities = frozenset({Capability.UNAIDED})


class Plain:
    capabilities = frozenset()


def test_what_is_learned_once_stays_and_comes_back_from_its_file(tmp_path):
    first = Responses()
    first.keep_in(tmp_path / "clusters.json")
    assert first.labels(pairs(3, 0)) == [None] * 3
    first.learn(pairs(80, 0))
    kept = (tmp_path / "clusters.json").read_bytes()
    labels = first.labels(pairs(40, 1))
    first.learn(pairs(80, 2))
    again = Responses()
    again.keep_in(tmp_path / "clusters.json")
    again.learn(pairs(80, 3))
    assert first.labels(pairs(40, 1)) == labels == again.labels(pairs(40, 1))
    assert (tmp_path / "clusters.json").read_bytes() == kept
    assert len(set(labels)) > 2


def test_a_damaged_file_and_one_of_another_encoder_are_refused(tmp_path):
    path = tmp_path / "clusters.json"
    learned = Responses(path=path)
    learned.learn(pairs(80, 0))
    other = Responses(Pretrained("mine", Lexical().fit(WORDS)))
    with pytest.raises(RunStateError, match=r"'lexical', but 'mine'"):
        other.keep_in(path)
    path.write_text(path.read_text()[:50], encoding="utf-8")
    with pytest.raises(RunStateError, match=r"clusters.json: cannot be read"):
        Responses().keep_in(path)


def test_a_model_that_answers_nothing_leaves_no_clusters_and_ends_no_run(tmp_path):
    silent = Responses(path=tmp_path / "clusters.json")
    silent.learn([(each, " ") for each, _ in pairs(20, 0)])
    assert silent.labels(pairs(2, 0)) == [None, None]
    assert not (tmp_path / "clusters.json").exists()


def test_what_is_hidden_of_a_text_is_not_compared():
    thoughtless = Responses(seen=lambda text: text.partition("</think>")[2])
    thoughtless.learn([(p, f"<think>{text[::-1]}</think>{text}") for p, text in pairs(80, 0)])
    plain = Responses()
    plain.learn(pairs(80, 0))
    hidden = [(p, f"<think>any</think>{text}") for p, text in pairs(20, 1)]
    assert thoughtless.labels(hidden) == plain.labels(pairs(20, 1))


@pytest.mark.parametrize(
    ("when", "answers", "task", "wanted"),
    [
        ("unscored", [None, None], Plain, True),
        ("unscored", [None, "7"], Plain, True),
        ("unscored", ["7", "8"], Plain, False),
        ("unscored", [None], Unaided, False),
        ("always", ["7"], Unaided, True),
        ("never", [None], Plain, False),
    ],
)
def test_clusters_are_fitted_where_nobody_scores_or_where_asked(when, answers, task, wanted):
    problems = [problem(number, answer) for number, answer in enumerate(answers)]
    found = responses_of(ClusterConfig(when=when), task(), problems)
    assert (found is not None) == wanted


def test_an_encoder_is_a_name_or_a_folder_beside_the_recipe(tmp_path):
    raw = {"name": "x", "monitors": {"clusters": {"encoder": "enc"}}}
    config = resolve(raw, base=tmp_path).monitors.clusters
    assert config.encoder == str(tmp_path / "enc")
    with pytest.raises(CheckpointError, match=r"expected lexical, all-minilm-l6-v2, or the folder"):
        responses_of(config, Plain(), [problem(0)])
    raw["monitors"]["clusters"]["encoder"] = "all-minilm-l6-v2"
    assert resolve(raw, base=tmp_path).monitors.clusters.encoder == "all-minilm-l6-v2"


@pytest.mark.slow
def test_a_run_labels_probe_samples_and_verdicts_by_round_0_and_a_resumed_run_alike(
    tmp_path, monkeypatch
):
    from scripted_world import Model, carry, recipe, uncommit

    known, check = [], preflight.check_round
    monkeypatch.setattr(preflight, "check_round", lambda *a, **k: known.append(k) or check(*a, **k))
    settings = recipe(rounds=1, monitors={"clusters": {"when": "always", "samples": 13}})
    model = Model()
    _, path = carry(tmp_path, model, settings)
    # What clusters are fitted on is drawn beside what round 0 measures, and in round 0 alone.
    probed = [request for request in model.engine.requests if "/probe/" in request.id]
    of_round = Counter(request.id.split("/")[0] for request in probed)
    num_problems = len({row.problem for row in Round.of(path, 0).probe})
    assert of_round["000"] == num_problems * (16 + 1 + 13)
    kept = (path / "clusters.json").read_bytes()
    first, second = (Round.of(path, number) for number in (0, 1))
    for round in (first, second):
        labels = [row.cluster for row in round.probe]
        assert None not in labels and len(set(labels)) > 3
        assert round.view.probe.cluster.tolist() == [
            row.cluster for row in round.probe if row.kind == "sample"
        ]
    assert all(verdict.cluster.startswith("all/") for verdict in second.verdicts)
    # Round 1's own drafts are those of round 0's model: their largest cluster is no canned text.
    assert known[0]["top_cluster"] == top_cluster(second.verdicts) > 0
    assert known[0]["by_cluster"] is False, "its answers are scored"
    assert {row.cluster.split("/")[0] for row in first.probe} >= {"near"}
    # Round 1 is made again from what round 0 had learned.
    before = [row.cluster for row in second.probe]
    uncommit(path, 1, "decision.json", "readings.json", "critics.parquet")
    carry(tmp_path, Model(), settings)
    assert [row.cluster for row in Round.of(path, 1).probe] == before
    assert (path / "clusters.json").read_bytes() == kept


@pytest.mark.slow
def test_a_run_with_right_answers_has_no_clusters_unless_asked(tmp_path):
    from scripted_world import Model, carry, recipe

    _, path = carry(tmp_path, Model(), recipe(rounds=1))
    assert not (path / "clusters.json").exists()
    assert np.all([row.cluster is None for row in Round.of(path, 0).probe])
