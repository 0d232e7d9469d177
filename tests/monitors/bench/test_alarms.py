"""The alarm benchmark: what is locked, what a detector sees, and how it is judged."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ouroloop.monitors.bench.alarms import evaluate, lock, table
from ouroloop.monitors.bench.alarms.detectors import DETECTORS, paired, published, streams
from ouroloop.monitors.bench.alarms.evaluate import (
    Rule,
    RunFacts,
    Scored,
    calibrated,
    false_alarms,
    powers,
    scores_of,
)
from ouroloop.monitors.bench.alarms.history import history_of
from ouroloop.monitors.bench.alarms.lock import RunKey, Split
from ouroloop.monitors.bench.alarms.simulation import OUTCOMES, SIZES, Size, simulated
from ouroloop.monitors.bench.regimes import REGIMES
from ouroloop.monitors.bench.simulate import Stream
from ouroloop.monitors.bench.truth import truth
from ouroloop.monitors.decision import guarded

SMALL = Size(40, 8, 32)


def a_run(regime, seed=7, size=SMALL, world=3):
    """(history, truth) of a run that is not of the locked ones."""
    columns, known = simulated(RunKey(regime, world, seed, Split.EVALUATION), size)
    return history_of(columns, lock.ROUNDS), known


@pytest.fixture(scope="module")
def fast_drift():
    return a_run("drift, fast")


def test_the_locked_runs_are_those_that_were_locked():
    keys = lock.keys()
    # A change of runs, worlds, seeds or budgets is another benchmark: raise VERSION, too.
    assert (lock.VERSION, lock.digest()) == (2, "027d9ede38c2e5ed")
    assert len(keys) == len({key.seed for key in keys}) == len({key.name for key in keys}) == 720
    assert {key.regime for key in keys} <= REGIMES.keys()
    for key in keys:
        assert key.is_healthy == (REGIMES[key.regime].mode is None)
        assert key.split == Split.EVALUATION or key.is_healthy
    worlds = {split: {key.world for key in keys if key.split == split} for split in Split}
    assert not worlds[Split.CALIBRATION] & worlds[Split.EVALUATION]
    assert set(lock.keys(1)) <= set(keys) and len(lock.keys(1)) == 180


def test_runs_of_one_world_share_their_problems_and_nothing_else():
    first, second, other = (
        Stream(REGIMES["drift"], seed, 20, 4, 8, 3, world_seed=world)
        for seed, world in ((1, 5), (2, 5), (1, 6))
    )
    assert np.array_equal(first.probe.hard_P, second.probe.hard_P)
    assert not np.array_equal(first.probe.hard_P, other.probe.hard_P)
    onsets = {Stream(REGIMES["drift"], seed, 20, 4, 8, 3, world_seed=5).onset for seed in range(9)}
    assert len(onsets) > 1
    samples = [list(of.rounds())[1].tables.main.now.right_PK for of in (first, second)]
    assert not np.array_equal(*samples)


def test_the_columns_of_a_run_say_what_the_simulation_drew():
    columns, _ = simulated(RunKey("sharpen", 3, 7, Split.EVALUATION), SMALL)
    stream = Stream(REGIMES["sharpen"], 7, *vars(SMALL).values(), lock.ROUNDS, world_seed=3)
    history = history_of(columns, lock.ROUNDS)
    for drawn, read in zip(stream.rounds(), history.rounds, strict=True):
        now = drawn.tables.main.now
        assert read.right_P == pytest.approx(now.right_PK.mean(axis=1))
        assert read.main.problems == now.problems
        assert np.array_equal(read.tail_P, stream.probe.tail_P)
        assert read.others_P == pytest.approx(drawn.tables.others.now.right_PK.mean(axis=1))
        assert read.main.wrong_share.max() == pytest.approx(now.wrong_share.max())
        # Strategies bear the names of their codes, those that nobody takes none.
        names = read.main.legend["strategy"]
        counts = np.bincount(now.strategy_PK.ravel(), minlength=13)
        assert read.all_PS.sum(axis=0).tolist() == [counts[int(name[1:])] for name in names]


@pytest.mark.slow
def test_the_statistics_of_a_round_are_unbiased_for_the_models_truth():
    size = Size(40, 400, 32)
    columns, _ = simulated(RunKey("stationary", 3, 7, Split.EVALUATION), size)
    stream = Stream(REGIMES["stationary"], 7, *vars(size).values(), 1, world_seed=3)
    first, second = list(stream.rounds())
    exact = truth(
        second.model, stream.world, stream.probe, guarded.rare_at_baseline(first.tables), 4
    )
    read = history_of(columns, 20).rounds[1]
    assert read.right_P.mean() == pytest.approx(exact.score["accuracy"], abs=0.01)
    assert read.pairs_P.mean() == pytest.approx(exact.score["diversity"], abs=0.01)
    assert read.tail_solved_P.mean() == pytest.approx(exact.score["tail_accuracy"], abs=0.02)
    assert read.entropy_P(400).mean() == pytest.approx(exact.entropy, abs=0.02)


def test_every_event_is_later_than_the_onset_and_none_comes_in_a_stationary_run(fast_drift):
    history, known = fast_drift
    assert known.events.keys() == set(OUTCOMES)
    assert known.onset <= known.events["accuracy"] <= known.events["pass@64"]
    firsts = [known.events[name] for name in ("accuracy", "diversity") if known.events[name]]
    assert known.events["event"] == min(firsts)
    assert len(history.rounds) == lock.ROUNDS + 1
    quiet = a_run("stationary")[1]
    assert quiet.onset == 0 and not any(quiet.events.values())


# --- detectors ---


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_scores_a_collapse_above_all_that_was_before_it(name, fast_drift):
    history, known = fast_drift
    scores = scores_of(DETECTORS[name](), history)
    assert len(scores) == lock.ROUNDS and all(map(math.isfinite, scores))
    # Fast drift spreads strategies: the entropy of strategies rises, and is blind to it.
    if name == "entropy":
        assert max(scores[known.onset :]) < 0.1
    else:
        assert max(scores[known.onset + 3 :]) > max(scores[: known.onset - 1])


@pytest.mark.parametrize("name", list(DETECTORS))
@pytest.mark.filterwarnings("error")
def test_a_round_that_nobody_answered_is_no_fall_and_no_warning(name, fast_drift):
    history, _ = fast_drift
    rounds = list(history.until(8).rounds)
    empty = replace(rounds[4].main, there_PK=np.zeros_like(rounds[4].main.there_PK))
    rounds[4] = replace(rounds[4], main=empty)
    scores = scores_of(DETECTORS[name](), replace(history, rounds=rounds))
    # NaN alarms at no threshold: in that round alone, and only where there is no value.
    assert all(map(math.isfinite, scores[:3] + scores[4:]))
    assert not scores[3] > max(scores_of(DETECTORS[name](), history))


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_detector_gives_the_same_when_asked_again_and_in_fewer_calls(name, fast_drift):
    history, _ = fast_drift
    detector = DETECTORS[name]()
    scores = scores_of(detector, history.until(8))
    assert scores == scores_of(DETECTORS[name](), history.until(8))
    # A score depends on the rounds so far, not on how often it was asked for.
    assert DETECTORS[name]().score(history.until(8)) == pytest.approx(scores[-1])
    assert detector.name == DETECTORS[name]().name


def test_the_names_of_the_detectors_differ_and_only_ours_have_a_limit():
    made = [make() for make in DETECTORS.values()]
    assert len({each.name for each in made}) == len(made)
    assert [name for name, make in DETECTORS.items() if hasattr(make(), "limit")] == [
        "watch-shipped",
        "halt-shipped",
    ]


@pytest.mark.slow
def test_paired_z_are_standard_normal_in_a_stationary_run_and_large_in_a_drift(fast_drift):
    z_TQ = []
    for seed in range(12):
        columns, _ = simulated(RunKey("stationary", 3, seed, Split.EVALUATION), SMALL)
        # Two rounds are compared, and reading all twenty takes ten times as long.
        is_first_N = columns["round"] <= 1
        two = {name: values[is_first_N] for name, values in columns.items()}
        history = history_of(two, lock.ROUNDS)
        z_TQ.append(paired.losses(history.baseline, history.rounds[1])[0])
    spread = np.array(z_TQ)[:, :3]
    assert np.abs(spread.mean(axis=0)).max() < 1.2 and 0.4 < spread.std() < 1.7
    history, known = fast_drift
    z_Q, shared = paired.losses(history.baseline, history.now)
    assert z_Q[0] > 6 and shared == pytest.approx(8 / 40)
    assert known.onset < lock.ROUNDS


def test_a_wrong_answer_of_one_problem_alone_is_no_shortcut():
    history, _ = a_run("stationary")
    # Every problem has wrong answers of its own; z would be 1 in every round.
    assert all(paired.losses(history.baseline, now)[0][-1] < 3 for now in history.rounds[1:])
    shortcut, known = a_run("shortcut, fast")
    z_Q, _ = paired.losses(shortcut.baseline, shortcut.rounds[known.onset + 6])
    assert z_Q[-1] > 3


@pytest.mark.slow
def test_the_evidence_of_the_mixture_is_a_fair_bet_on_normal_losses(monkeypatch):
    rng = np.random.default_rng(0)
    shared, rounds, runs = 0.2, 5, 4000
    base = rng.normal(0, np.sqrt(shared), (runs, 1, 1))
    z_RTQ = base + rng.normal(0, np.sqrt(1 - shared), (runs, rounds, 1))

    class Fake:
        planned = rounds

        def __init__(self):
            # All rounds, and the baseline.
            self.rounds = [None] * (rounds + 1)

    found = []
    for z_TQ in z_RTQ:
        monkeypatch.setattr(paired, "losses_so_far", lambda _, z=z_TQ: (z, shared))
        found.append(np.exp(paired.MixtureSprt().score(Fake())))
    # The expectation of a likelihood ratio is 1, after the last round as after any.
    assert np.mean(found) == pytest.approx(1.0, abs=0.15)


def test_the_pit_monitors_transforms_are_uniform_while_nothing_changes():
    history, _ = a_run("stationary", size=Size(400, 8, 64))
    values = published.transforms(history.baseline, history.rounds[1], 0)
    assert len(values) == 400 and np.abs(np.sort(values) - np.linspace(0, 1, 400)).max() < 0.08


def test_adwin_cuts_where_rivers_does():
    drift = pytest.importorskip("river.drift")
    rng = np.random.default_rng(0)

    class Fake:
        def __init__(self, wrong):
            self.num_P = np.full(1, len(wrong))
            self.main = type("T", (), {"right_PK": ~wrong, "there_PK": np.ones_like(wrong)})

    for rate, expected in ((0.30, False), (0.45, True)):
        rounds = [rng.random(960) < (0.30 if t < 6 else rate) for t in range(10)]
        river = drift.ADWIN(delta=0.002)
        fired = False
        for x in np.concatenate(rounds):
            river.update(float(x))
            fired |= river.drift_detected
        history = type("H", (), {"rounds": [Fake(r) for r in rounds]})
        score = streams.Adwin().score(history)
        # ln(2 / delta'), with delta' the share of one of all cuts.
        assert bool(score > np.log(2 * np.log(9600) / 0.002)) is bool(fired) is expected


def test_the_evidence_of_a_quiet_run_does_not_fall_by_itself():
    history, _ = a_run("stationary")
    log_e = scores_of(DETECTORS["watch-shipped"](), history)
    odds = scores_of(DETECTORS["watch"](), history)
    # The mixture ends far below 1 where nothing happens; the odds stay near one.
    assert log_e[-1] < log_e[0] - 1 and max(map(abs, odds)) < 1


# --- how they are judged ---


def facts(name, healthy=True, split=Split.EVALUATION, regime="stationary", onset=0, **events):
    return RunFacts(name, "simulated", regime, healthy, split, 20, onset=onset, events=events)


def scored(name, scores, **about):
    return Scored(facts(name, **about), tuple(scores))


def test_a_calibrated_threshold_keeps_its_budget_on_fresh_runs():
    rng = np.random.default_rng(1)
    for budget in lock.BUDGETS:
        rates = []
        for _ in range(200):
            runs = [scored(str(i), rng.normal(size=20)) for i in range(39)]
            threshold = calibrated(runs, budget)
            fresh = rng.normal(size=(100, 20)).max(axis=1)
            rates.append((fresh > threshold).mean())
        assert budget - 0.025 <= np.mean(rates) <= budget + 0.005


def test_with_too_few_healthy_runs_no_threshold_is_promised():
    runs = [scored(str(i), [float(i)]) for i in range(18)]
    assert calibrated(runs, 0.05) == math.inf
    assert calibrated([*runs, scored("18", [18.0])], 0.05) == 18.0
    assert calibrated([], 0.2) == math.inf


def test_a_score_that_is_no_number_is_no_alarm():
    run = scored("a", [math.nan, 2.0, math.nan])
    assert (run.alarm(1.0), run.alarm(2.0), run.alarm(2.0, reaches=True)) == (2, 0, 2)
    assert calibrated([run] * 19, 0.05) == 2.0


def test_a_detector_over_its_budget_is_not_accepted():
    rule = Rule("x", 0.05, 1.0)
    quiet = [scored(f"q{i}", [0.0] * 20) for i in range(40)]
    loud = [scored(f"l{i}", [0.0] * 9 + [2.0] * 11, regime="improving") for i in range(8)]
    found = false_alarms(rule, quiet + loud)
    assert (found.runs, found.alarmed, found.accepted) == (48, 8, False)
    assert (found.worst, found.worst_share) == ("improving", 1.0)
    # A run ends with its first alarm.
    assert found.run_length == (40 * 20 + 8 * 10) / 8
    few = false_alarms(rule, quiet + loud[:2])
    assert few.accepted and few.low < 0.05 < few.high
    own = false_alarms(Rule("x", None, 1.0), quiet + loud)
    assert own.accepted is None


def test_an_alarm_before_the_onset_is_a_false_one_and_one_after_the_loss_is_late():
    known = {**dict.fromkeys(OUTCOMES, 0), "event": 9}
    runs = [
        scored(str(at), [2.0 if t >= at else 0.0 for t in range(1, 21)], healthy=False,
               regime="drift", onset=5, **known)
        for at in (3, 5, 9, 12)
    ]  # fmt: skip
    power = next(p for p in powers(Rule("x", 0.05, 1.0), runs) if p.outcome == "event")
    assert (power.runs, power.seen, power.delay, power.lead) == (4, 2, 4.0, 0.0)
    other = next(p for p in powers(Rule("x", 0.05, 1.0), runs) if p.outcome == "pass@64")
    assert (other.runs, other.seen) == (0, 0) and math.isnan(other.low)
    healthy = false_alarms(Rule("x", 0.05, 1.0), [*runs, scored("h", [0.0] * 20)])
    assert healthy.before_onset == 0.25


def test_the_page_and_the_numbers_say_the_same():
    calibration = [scored(f"c{i}", [i / 100] * 20, split=Split.CALIBRATION) for i in range(40)]
    healthy = [scored(f"h{i}", [0.0] * 20) for i in range(20)]
    known = {**dict.fromkeys(OUTCOMES, 0), "event": 9}
    sick = [scored("s", [0.0] * 6 + [9.0] * 14, healthy=False, regime="drift", onset=5, **known)]
    real = [Scored(RunFacts("r-1", "real", "r", None, Split.EVALUATION, 3), (0.0, 9.0, 9.0))]
    runs = calibration + healthy + sick + real
    result = table.result({"x": runs, "y": runs}, {"x": None, "y": 5.0})
    page = table.page(result, "the command")
    assert "40 healthy ones to choose thresholds, 20 healthy and 1 collapsing" in page
    assert "Real runs: 1" in page and "| r | 1 of 1, round 2 |" in page
    assert "## At 5% false alarms per 20 rounds" in page and "## At their own limits" in page
    rows = table.rows(result)
    by = {(row["budget"], row["regime"], row["outcome"]): row for row in rows}
    assert {row["detector"] for row in rows if row["budget"] == "own limit"} == {"y"}
    seen = by[0.05, "drift", "event"]
    assert (seen["runs"], seen["alarmed"], seen["delay"], seen["lead"]) == (1, 1, 2.0, 2.0)
    assert by[0.05, "healthy", "false alarm"]["accepted"] is True
    assert by["own limit", "healthy", "false alarm"]["accepted"] is None
    assert "| drift | 1 | 100 % |" in page
    assert "| x | yes | 0 % (0 to 17) | - | no alarm | 0% | 100% | 2.0 | +2.0 |" in page


def test_the_sizes_are_those_of_the_validation():
    assert {name: tuple(vars(size).values()) for name, size in SIZES.items()} == {
        "120x8": (120, 8, 32),
        "500x16": (500, 16, 256),
    }
    assert evaluate.BUDGETS == (0.05, 0.20)
