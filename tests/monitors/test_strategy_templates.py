"""Free text: clusters are learned once, frozen, and say when a text is like none of them."""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pytest

from ouroloop.monitors.strategies.clusters import NEW, Clusters
from ouroloop.monitors.strategies.masking import steps
from ouroloop.monitors.strategies.templates import Templates
from tools.strategy_measures import MIXES, draw
from tools.strategy_measures import fitted as fit_on_traces

PROSE = [
    "First we look at the picture and compare both sides before we choose",
    "We guess, test the guess, and correct it until nothing is wrong",
    "Draw a table with every case, then cross out what cannot be",
]


def prose(num_texts):
    rng = np.random.default_rng(0)
    fillers = ["indeed", "so", "well", "then again", "clearly"]
    kinds = rng.integers(0, len(PROSE), num_texts)
    return kinds, [
        f"{rng.choice(fillers)} {PROSE[kind].lower()} {rng.choice(fillers)}" for kind in kinds
    ]


@lru_cache
def sums():
    return fit_on_traces(MIXES["sum2"], seed=0, num_traces=400)


def blobs(num_blobs, size=40, dim=8, spread=0.02):
    rng = np.random.default_rng(1)
    vectors = np.concatenate(
        [np.eye(dim)[i] + spread * rng.normal(size=(size, dim)) for i in range(num_blobs)]
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_numbers_become_roles_and_names_and_the_questions_words_are_dropped():
    question = "Tom has 47 apples and gets 35 more."
    first, second = steps(question, "So Tom adds 47 + 30 = 77.\nThen 77 apples plus 5 gives 82")
    assert (first.form, second.form) == ("+ G N", "+ N R")
    assert "tom" not in first.words and "apples" not in second.words
    (other,) = steps("Add 61 and 28, says Eva.", "So Eva adds 61 + 20 = 81.")
    assert other.form == first.form


def test_texts_without_numbers_are_clustered_by_their_words():
    kinds, texts = prose(120)
    templates = Templates().fit([""] * 120, texts)
    labels = [templates("", text) for text in texts]
    known = {(kind, label) for kind, label in zip(kinds, labels, strict=True) if label != NEW}
    assert len(known) == len(PROSE) == len({label for _, label in known})


def test_a_plan_that_no_fitted_text_has_is_new():
    templates = sums()
    assert templates("47 and 35", "47+30=77\n77+5=82\nanswer 82") != NEW
    assert templates("47 and 35", "47*35=1645\n1645/7=235\nanswer 235") == NEW
    assert templates("47 and 35", "I would rather not say") == NEW


def test_few_demonstrations_of_the_same_world_are_new():
    templates = sums()
    labels = [
        templates(trace.problem.question, trace.text) for trace in draw(MIXES["sum2"], 300, 5, 0.0)
    ]
    assert labels.count(NEW) / len(labels) < 0.05


def test_what_was_learned_survives_json_to_the_letter():
    templates = sums()
    thawed = Templates.from_json(templates.to_json())
    assert thawed.to_json() == templates.to_json()
    assert all(
        templates(t.problem.question, t.text) == thawed(t.problem.question, t.text)
        for t in draw(MIXES["sum2"], 200, 3, 0.5)
    )
    json.loads(templates.to_json())


def test_the_same_texts_teach_the_same_and_later_texts_change_nothing():
    one, other = (
        fit_on_traces(MIXES["sum2"], seed=4, num_traces=200),
        fit_on_traces(MIXES["sum2"], seed=4, num_traces=200),
    )
    frozen = one.to_json()
    for trace in draw(MIXES["all families"], 50, 6, 1.0):
        one(trace.problem.question, trace.text)
    assert one.to_json() == frozen == other.to_json()


@pytest.mark.parametrize("num_blobs", [3, 4, 6])
def test_the_number_of_clusters_is_found(num_blobs):
    assert len(Clusters().fit(blobs(num_blobs)).limits_) == num_blobs


def test_vectors_without_structure_are_one_cluster_and_the_number_can_be_set():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(300, 30))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert len(Clusters().fit(noise).limits_) == 1
    assert len(Clusters(num_clusters=5).fit(noise).limits_) == 5
    assert len(Clusters().fit(np.ones((7, 3))).limits_) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Clusters(num_clusters=0),
        lambda: Clusters(max_clusters=2),
        lambda: Clusters(coverage=0.0),
        lambda: Templates(min_share=1.0),
        lambda: Templates().fit(["q"], [""]),
        lambda: Templates().fit(["q", "q"], ["a"]),
        lambda: Templates.from_json('{"kind": "embeddings"}'),
        lambda: Templates.from_json("[]"),
        lambda: Clusters().fit(np.zeros((0, 3))),
    ],
)
def test_what_can_not_be_learned_from_is_refused(make):
    with pytest.raises(ValueError):
        make()


def test_frozen_clusters_that_do_not_fit_their_features_are_refused():
    state = json.loads(fit_on_traces(MIXES["sum2"], seed=0, num_traces=100).to_json())
    state["features"] = state["features"][1:]
    with pytest.raises(ValueError, match="features"):
        Templates.from_json(json.dumps(state))


def test_unfitted_templates_say_what_to_do():
    with pytest.raises(RuntimeError, match="fit"):
        Templates()("q", "1+1=2")
