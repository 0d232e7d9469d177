import dataclasses
import itertools

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.metrics.agreement import Agreement, agreement
from ouroloop.monitors.metrics.shortcut import Shortcut, shortcut_share


def read(now, then=None):
    return {
        r.name: r
        for r in Agreement().measure(
            RoundView(1, now),
            None if then is None else RoundView(0, then),
        )
    }


def test_pairs_that_agree_are_counted_one_by_one_and_unreadable_answers_agree_with_none():
    probe = samples(np.random.default_rng(0), 8, 6)
    answer = np.where(np.arange(len(probe)) % 5 == 0, None, probe.answer)
    probe = dataclasses.replace(probe, answer=answer)
    for wrong in (False, True):
        ours = agreement(probe, wrong)
        for problem in ours:
            mine = np.flatnonzero(probe.problem == problem)
            hits = [
                answer[a] is not None
                and answer[a] == answer[b]
                and (not wrong or probe.correct[a] == 0)
                for a, b in itertools.permutations(mine, 2)
            ]
            assert ours[problem] == pytest.approx(np.mean(hits))


@pytest.mark.slow
@pytest.mark.parametrize("k", [4, 8, 16])
def test_agreement_is_unbiased(k):
    rng, p = np.random.default_rng(k), np.array([0.5, 0.3, 0.2])
    num = 10_000
    drawn = rng.choice(3, size=num * k, p=p)
    probe = samples(rng, num, k)
    probe = dataclasses.replace(
        probe,
        answer=drawn.astype(str).astype(object),
        correct=(drawn == 0).astype(float),
    )
    for wrong, truth in ((False, (p**2).sum()), (True, (p[1:] ** 2).sum())):
        score = np.array(list(agreement(probe, wrong).values()))
        assert abs(score.mean() - truth) < 3 * score.std() / np.sqrt(num)


def test_agreement_that_follows_accuracy_is_no_decoupling_and_agreement_on_wrong_answers_is():
    rng = np.random.default_rng(1)
    then = samples(rng, 200, accuracy=0.5, spread=0.0, confusion=4)
    drifted = read(samples(rng, 200, accuracy=0.5, spread=0.0, confusion=1), then)
    assert drifted["agreement/decoupling"].low > 0.1
    assert drifted["agreement/wrong_share"].low > read(then)["agreement/wrong_share"].high
    same = read(samples(rng, 200, accuracy=0.5, spread=0.0, confusion=4), then)
    assert same["agreement/decoupling"].low < 0 < same["agreement/decoupling"].high
    assert same["agreement/wrong_share"].value == pytest.approx(
        0.25 / 4 / (0.25 / 4 + 0.25),
        abs=0.03,
    )


def test_the_shortcut_is_found_and_measured_on_the_other_half():
    probe = samples(np.random.default_rng(2), 60)
    stuck = np.where(np.arange(len(probe)) % 4 == 0, "42", probe.answer)
    reading = Shortcut().measure(
        RoundView(1, dataclasses.replace(probe, answer=stuck)),
        RoundView(0, probe),
    )[0]
    assert reading.value == pytest.approx(0.25, abs=0.02)
    assert (reading.details["answer"], reading.details["chosen"], reading.details["problems"]) == (
        "42",
        1.0,
        60,
    )
    assert reading.details["reference"] == 0.0 and reading.low < 0.25 < reading.high


@pytest.mark.slow
def test_the_largest_of_many_noisy_shares_is_not_biased_up():
    rng, ours, naive = np.random.default_rng(3), [], []
    for _ in range(150):
        probe = samples(rng, 60)
        probe = dataclasses.replace(
            probe,
            answer=rng.integers(0, 400, len(probe)).astype(str).astype(object),
        )
        ours.append(shortcut_share(probe)[0].value)
        naive.append(np.unique(probe.answer, return_counts=True)[1].max() / len(probe))
    assert abs(np.mean(ours) - 1 / 400) < 3 * np.std(ours) / np.sqrt(150)
    assert np.mean(naive) > 4 / 400
