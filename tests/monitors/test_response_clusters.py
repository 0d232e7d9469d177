"""Response clusters: frozen, each text by itself, and what they see of a collapse."""

import json
import random
from collections import Counter

import numpy as np
import pytest

from ouroloop.monitors.strategies import lexical
from ouroloop.monitors.strategies.lexical import Lexical, grams
from ouroloop.monitors.strategies.responses import MIN_ANSWERS, Pretrained, ResponseClusters
from tests.hostile_texts import BLOCKS

REFUSAL = "I'm sorry, but I can't help with that."
SUBJECTS = {
    "garden": "soil seed plant water sun leaf root rain bed compost tomato bean frost worm",
    "ship": "harbour sail rope deck anchor wave captain mast tide storm cargo port hull gull",
    "kitchen": "oven flour butter salt bread knife pan soup pepper plate onion broth yeast cup",
    "law": "court judge appeal contract clause witness verdict statute fine lawyer deed jury oath",
    "music": "chord violin tempo rhythm scale drum choir note melody tune bass flute string bow",
}
LINKS = ("and", "then", "because", "while", "after", "before", "although", "since", "unless", "if")


def answers(num, seed):
    """(texts, questions): sentences about each question's subject."""
    draw, texts, questions = random.Random(seed), [], []
    for subject, words in SUBJECTS.items():
        for _ in range(num):
            said = []
            for _ in range(12):
                said += [draw.choice(words.split()), draw.choice(LINKS)]
            texts.append(" ".join(said))
            questions.append(f"Write about the {subject}.")
    return texts, questions


@pytest.fixture(scope="module")
def fitted():
    return ResponseClusters().fit(*answers(40, 0))


def apart(labels, questions):
    """Share of pairs of one question's answers that lie in different clusters."""
    shares = []
    for question in set(questions):
        own = Counter(label for label, q in zip(labels, questions, strict=True) if q == question)
        num = sum(own.values())
        same = sum(count * (count - 1) for count in own.values())
        shares.append(1 - same / (num * (num - 1)))
    return np.mean(shares)


def test_a_label_depends_on_the_text_and_its_question_alone(fitted):
    texts, questions = answers(10, 1)
    together = fitted.labels(texts, questions)
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = fitted.labels([texts[i] for i in order], [questions[i] for i in order])
    assert shuffled == [together[i] for i in order]
    one_by_one = [fitted.labels([t], [q])[0] for t, q in zip(texts, questions, strict=True)]
    assert one_by_one == together
    assert len(set(together)) > 5


def test_what_is_frozen_comes_back_from_json_and_labels_alike(fitted):
    texts, questions = answers(20, 2)
    again = ResponseClusters.from_json(fitted.to_json())
    assert again.labels(texts, questions) == fitted.labels(texts, questions)
    assert again.to_json() == fitted.to_json()
    assert len(fitted.to_json()) < 3e6


def test_fresh_answers_of_the_same_source_are_near_and_mostly_apart(fitted):
    texts, questions = answers(20, 3)
    labels = fitted.labels(texts, questions)
    near = np.mean([label.startswith("near/") for label in labels])
    assert near > 0.9
    assert apart(labels, questions) > 0.6


def test_one_new_text_is_one_new_cluster_and_many_new_texts_are_many(fitted):
    _, questions = answers(20, 4)
    (label,) = set(fitted.labels([REFUSAL] * len(questions), questions))
    assert label.startswith("new/")
    draw = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word():
        return "".join(draw.choices(letters, k=draw.randint(3, 9)))

    strange = [" ".join(word() for _ in range(20)) for _ in questions]
    many = fitted.labels(strange, questions)
    assert np.mean([each.startswith("new/") for each in many]) > 0.5
    assert len(set(many)) >= 5 and apart(many, questions) > 0.5


def test_every_prompts_own_text_repeated_pulls_its_samples_together(fitted):
    texts, questions = answers(20, 6)
    first = dict(zip(reversed(questions), reversed(texts), strict=True))
    shares = []
    for dose in (0.0, 0.2, 0.5, 1.0):
        draw = random.Random(7)
        dosed = [
            first[q] if draw.random() < dose else t for t, q in zip(texts, questions, strict=True)
        ]
        shares.append(apart(fitted.labels(dosed, questions), questions))
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0
    assert shares[0] > 1.15 * shares[2]


def test_a_prompt_that_the_baseline_did_not_answer_has_cells_of_whole_answers(fitted):
    texts, _ = answers(2, 8)
    assert {x.split("/")[0] for x in fitted.labels(texts, ["never asked"] * len(texts))} == {"all"}
    few_texts, few_questions = answers(MIN_ANSWERS - 1, 9)
    few = ResponseClusters().fit(few_texts, few_questions)
    assert not few.means_
    assert all(x.startswith("all/") for x in few.labels(few_texts, few_questions))


def test_blank_texts_are_a_cluster_of_their_own(fitted):
    assert fitted.labels(["", " \n\t"], ["q", "Write about the law."]) == ["blank", "blank"]


def test_hostile_texts_get_labels_or_none_and_cost_nobody_else_theirs(fitted):
    plain, _ = answers(1, 10)
    labels = fitted.labels([*BLOCKS.values(), *plain], ["q"] * (len(BLOCKS) + len(plain)))
    assert all(label is None or label.count("/") == 1 or label == "blank" for label in labels)
    assert labels[len(BLOCKS) :] == fitted.labels(plain, ["q"] * len(plain))
    ResponseClusters().fit([*BLOCKS.values(), *plain], ["q"] * (len(BLOCKS) + len(plain)))


def test_a_sentence_encoder_that_fails_on_one_text_leaves_the_others_their_labels():
    built_in = Lexical().fit(answers(20, 0)[0])

    def embed(texts):
        if any("boom" in text for text in texts):
            raise MemoryError("too long")
        return 3 * built_in(texts)

    clusters = ResponseClusters(Pretrained("mine", embed)).fit(*answers(20, 0))
    texts, questions = answers(2, 1)
    assert clusters.labels(["boom", *texts], ["q", *questions]) == [
        None,
        *clusters.labels(texts, questions),
    ]
    with pytest.raises(ValueError, match=r"'mine', but None"):
        ResponseClusters.from_json(clusters.to_json())
    again = ResponseClusters.from_json(clusters.to_json(), Pretrained("mine", embed))
    assert again.labels(texts, questions) == clusters.labels(texts, questions)


def test_wrong_uses_say_what_is_wrong(fitted):
    with pytest.raises(RuntimeError, match="fit"):
        ResponseClusters().labels(["a"], ["b"])
    with pytest.raises(ValueError, match=r"got 2 texts"):
        ResponseClusters().fit(["", " "], ["q", "q"])
    with pytest.raises(ValueError, match="coverage"):
        ResponseClusters(coverage=1.0)
    with pytest.raises(ValueError, match="shape"):
        Pretrained("bad", lambda texts: np.zeros(3))(["a"])
    state = json.loads(fitted.to_json())
    for broken in ({**state, "version": 0}, [], {**state, "means": ""}):
        with pytest.raises(ValueError):
            ResponseClusters.from_json(json.dumps(broken))


# ----- the built-in encoder -----


def test_hashes_of_short_grams_fill_the_buckets_evenly():
    """An earlier n-gram hash mapped 729 bigrams to two buckets."""
    letters = "abcdefghijklmnopqrstuvwxyz "
    text = " ".join(a + b + c + "z" for a in letters[:26] for b in letters[:26] for c in "xyz")
    (_, _), (runs, counts) = grams(text)
    assert len(runs) > 2_000
    buckets = np.bincount((runs % np.uint64(lexical.BUCKETS)).astype(int))
    expected = lexical.BUCKETS * (1 - (1 - 1 / lexical.BUCKETS) ** len(runs))
    assert (buckets > 0).sum() == pytest.approx(expected, rel=0.05)
    assert np.mean(runs >> np.uint64(63)) == pytest.approx(0.5, abs=0.05)
    assert counts.sum() == len(text) - lexical.NUM_CHARS + 1


def test_a_text_has_the_same_grams_however_its_blanks_and_capitals_are():
    for one, other in zip(grams("The  Cat\nsat."), grams("the cat sat."), strict=True):
        assert np.array_equal(one[0], other[0]) and np.array_equal(one[1], other[1])
    assert grams("") == () and len(grams("ab")) == 1


def test_texts_that_share_words_are_nearer_than_texts_that_share_none():
    encode = Lexical().fit(answers(20, 0)[0])
    one, near, far = encode(
        ["soil and seed then water", "water and soil then leaf", "court and judge then jury"]
    )
    assert one @ near > one @ far + 0.2
    assert np.linalg.norm(one) == pytest.approx(1.0)
