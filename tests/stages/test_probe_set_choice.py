"""Which held-out problems become the fixed probe set."""

from collections import Counter

import pytest

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.stages.probe import choose_probe_set


class Task:
    def __init__(self, num_tail):
        self.num_tail = num_tail

    def problems(self, split):
        slices = ["tail"] * self.num_tail + ["typical"] * 40
        return [
            Problem(f"{split}{i}", f"{split} {i}?", "1", "main", s) for i, s in enumerate(slices)
        ]


def counted(probe_set, family):
    return Counter(p.slice for p in probe_set.problems if p.family == family)


@pytest.mark.parametrize(("share", "tail"), [(0.5, 30), (0.25, 15), (0.0, 0), (1.0, 60)])
def test_a_share_of_the_main_familys_problems_is_of_the_tail_and_all_others_stay(share, tail):
    task = ArithmeticTask()
    probe_set = choose_probe_set(
        task, ProbeConfig(problems=60, family_problems=5, tail_share=share)
    )
    plain = choose_probe_set(task, ProbeConfig(problems=60, family_problems=5))
    assert counted(probe_set, "sum2") == {
        k: n for k, n in (("tail", tail), ("typical", 60 - tail)) if n
    }
    assert 0 < counted(plain, "sum2")["tail"] < 30 and counted(plain, "sum2").total() == 60
    assert [p for p in probe_set.problems if p.family != "sum2"] == [
        p for p in plain.problems if p.family != "sum2"
    ]


@pytest.mark.parametrize("num_tail", [0, 4])
def test_where_the_tail_is_too_small_typical_problems_fill_the_probe_set(num_tail):
    probe_set = choose_probe_set(Task(num_tail), ProbeConfig(problems=20, tail_share=0.5))
    assert counted(probe_set, "main") == {
        k: n for k, n in (("tail", num_tail), ("typical", 20 - num_tail)) if n
    }
