"""What counts as a healthy run, and when the goal is met."""

from runs.experiments.healthy_runs import study


def run(*rounds):
    keys = ("round", "action", "pass_1", "tail_pass_k", "dcp")
    return [dict(zip(keys, values, strict=True)) for values in rounds]


GOOD = run((0, "continue", 0.5, 0.6, 0.2), (1, "continue", 0.6, 0.6, 0.3))
HALTED = run((0, "continue", 0.5, 0.6, 0.2), (1, "rollback", 0.6, 0.6, 0.3))
WARNED = run((0, "continue", 0.5, 0.6, 0.2), (1, "reinject", 0.6, 0.6, 0.3))
WORSE = run((0, "continue", 0.5, 0.6, 0.2), (1, "halt", 0.6, 0.6, 0.17))


def test_a_run_that_lost_something_does_not_count_and_one_halted_run_fails_the_goal():
    assert not study.lost(GOOD) and study.lost(WORSE)
    arm = dict.fromkeys(range(59), GOOD)
    few, many = study.goals({"a": {0: GOOD}})[0], study.goals({"a": {**arm, 60: WORSE}})[0]
    assert few.met is None and many.met is True and many.found.num_clusters == 59
    assert study.goals({"a": {**arm, 60: HALTED}})[0].met is False
    halt, watch = study.goals({"a": {**dict.fromkeys(range(100), GOOD), 100: WARNED}})
    assert halt.met is True and watch.met is True and watch.found.value > 0
