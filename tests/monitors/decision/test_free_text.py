"""Guarded quantities of text that nobody scored."""

import dataclasses
import json

import numpy as np
import pytest
from simulated_panel import joined, objects, samples

from ouroloop.monitors.base import RoundView, Samples, Texts
from ouroloop.monitors.decision import (
    baseline_error,
    blocks,
    evidence,
    free,
    guarded,
    halved,
    patterns,
    stakes,
)
from ouroloop.monitors.decision.declaration import declared_of
from ouroloop.monitors.decision.guards import Quantity, Why
from ouroloop.monitors.decision.records import Decision, StreamId
from ouroloop.monitors.decision.responses import Grid, opening, responses, with_responses
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Pair, Table, tables_of
from ouroloop.monitors.names import Action, FailureMode, Tier

RULE = DecisionRule(main_family="red-team")
REFUSAL = "I'm sorry, but I can't help with that."
OPENINGS = ("Sure, here", "Well, it", "I think that", "Let me see", "There are", "You could")


def free_text(seed, num_problems=100, num_samples=8, canned=0.0, approved=0.8, cut=0.02):
    """Six ways to answer, each prompt with its own shares; a share of canned refusals."""
    rng = np.random.default_rng(seed)
    share_PC = np.random.default_rng(1).dirichlet(np.ones(6), num_problems)
    num = num_problems * num_samples
    problem_N = np.repeat(np.arange(num_problems), num_samples)
    way_N = (rng.random(num)[:, None] > share_PC.cumsum(axis=1)[problem_N]).sum(axis=1)
    hit_N = rng.random(num) < canned
    texts = [
        REFUSAL if hit else f"{OPENINGS[way]} {word} of {problem} words."
        for hit, way, word, problem in zip(
            hit_N, way_N, rng.integers(9, size=num), problem_N, strict=True
        )
    ]
    nan = np.full(num, np.nan)
    return Samples(
        problem=objects(f"r{p:03d}" for p in problem_N),
        family=objects(["red-team"] * num),
        slice=objects(["typical"] * num),
        correct=nan,
        valid=nan,
        strategy=objects([None] * num),
        answer=objects([None] * num),
        nll=np.where(hit_N, 0.01, rng.gamma(4.0, 0.3, num)),
        num_tokens=np.where(hit_N, 12, rng.poisson(30, num)).astype(float),
        truncated=((rng.random(num) < cut) & ~hit_N).astype(float),
        text=objects(texts),
        cluster=objects(
            "refusal" if hit else f"way {way}" for hit, way in zip(hit_N, way_N, strict=True)
        ),
        approvals={"harmless": (hit_N | (rng.random(num) < approved)).astype(float)},
    )


def a_view(number, seed, **options):
    """A round; the baseline has four times as many samples."""
    return RoundView(number, free_text(seed, num_samples=8 if number else 32, **options))


@pytest.fixture(scope="module")
def baseline():
    return a_view(0, 0)


def with_column(view, **columns):
    return dataclasses.replace(view, probe=dataclasses.replace(view.probe, **columns))


def decide(now, baseline, history=(), rule=RULE):
    decision = rule.decide(now, baseline, (), history)
    written = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert Decision.from_json(written).to_json() == decision.to_json()
    return decision


def guard_of(decision, id):
    return next(g for g in decision.guards if g.quantity == id)


# ---- the decision ---------------------------------------------------------------------------


def test_a_name_of_unscored_text_bears_no_figure_and_follows_the_driver(baseline):
    """It was "sharpening, right for 99 % of alarms": apart falls in healthy rounds, too."""
    now = a_view(1, 1)
    # Every fourth sample says what its prompt's first one says, as beside clusters that were fitted
    # on the baseline's own texts.
    num_N = np.arange(len(now.probe))
    cluster = np.where(num_N % 4 == 3, now.probe.cluster[num_N - num_N % 8], now.probe.cluster)
    longer = with_column(now, num_tokens=now.probe.num_tokens + 200, cluster=cluster)
    assert guard_of(decide(longer, baseline), "apart").high < 0
    decision = decide(longer, baseline)
    assert decision.spoke == StreamId("length") and decision.mode is FailureMode.DRIFT
    named = [reason for reason in decision.reasons if "looks like" in reason]
    assert named == ["it looks like drift (how often that name is right was not measured)"]


def test_a_red_team_family_that_becomes_one_canned_refusal_is_halted_and_named(baseline):
    """Token entropy 1.20 -> 0.01: it was "continue" in every round while nobody scored it."""
    decision = decide(a_view(1, 1, canned=1.0), baseline)
    assert (decision.action, decision.mode) == (Action.ROLLBACK, FailureMode.CANNED)
    assert guard_of(decision, "canned").after == 1.0
    assert "I can't help with that." in guard_of(decision, "canned").note
    assert guard_of(decision, "open").after < 0.02 < guard_of(decision, "open").before


@pytest.mark.parametrize("share", [0.1, 0.2])
def test_a_part_of_the_samples_that_becomes_canned_is_called_within_two_rounds(baseline, share):
    history = []
    for number in (1, 2):
        decision = decide(a_view(number, 10 + number, canned=share), baseline, history)
        history.append(dataclasses.replace(decision, carried_out=False))
    assert history[-1].action is not Action.CONTINUE
    assert FailureMode.CANNED in {d.mode for d in history}


@pytest.mark.slow
def test_the_audit_of_a_remedy_says_whether_canned_responses_are_gone(baseline):
    def usual(number, seed, share):
        # As long and as surprising as any other answer, so that the patterns alone show it.
        view, rng = a_view(number, seed, canned=share), np.random.default_rng(seed)
        num = len(view.probe)
        tokens = rng.poisson(30, num).astype(float)
        return with_column(view, num_tokens=tokens, nll=rng.gamma(4.0, 0.3, num))

    def after(share):
        history = [decide(usual(1, 11, 0.3), baseline)]
        assert history[0].evidence[Tier.HALT].driver.quantity == "canned"
        for number in (2, 3, 4):
            history.append(decide(usual(number, 20 + number, share), baseline, history))
        (audit, *_) = history[-1].audits
        assert (audit.quantity, audit.round) == ("canned", 1)
        return audit.recovered

    assert after(0.0) and not after(0.3)


def test_wording_is_compared_with_the_baseline_from_which_on_it_should_no_longer_change(baseline):
    """A constitution rewrites texts in its first rounds; a collapse after them is called."""
    rule = DecisionRule(main_family="red-team", num_baselines=2, texts_since=1, rounds=4)
    rewritten = [a_view(number, 40 + number, canned=0.4, approved=0.9) for number in (1, 2)]
    later = dataclasses.replace(
        rewritten[0], round=1, probe=free_text(51, num_samples=32, canned=0.4)
    )
    first = rule.decide(later, baseline)
    assert first.action is Action.CONTINUE
    waiting = {u.quantity: u.reason for u in first.unmeasured}
    assert "until round 1" in waiting["canned"] and "apart" in waiting
    assert {"approved/harmless", "answered"} <= {guard.quantity for guard in first.guards}
    second = rule.decide(rewritten[1], [baseline, later], (), [first])
    assert second.action is Action.CONTINUE
    assert {g.baseline for g in second.guards if g.quantity == "canned"} == {1}
    collapsed = rule.decide(a_view(2, 60, canned=0.9), [baseline, later], (), [first])
    assert (collapsed.action, collapsed.mode) == (Action.ROLLBACK, FailureMode.CANNED)
    # Without it the wanted change alone would have ended the first round.
    impatient = dataclasses.replace(rule, texts_since=0)
    assert impatient.decide(later, baseline).action is Action.ROLLBACK


def test_wording_of_families_that_are_not_revised_is_guarded_from_the_first_round_on(baseline):
    """The red team's answers are meant to become one refusal, and the helpful ones are not."""
    rule = DecisionRule(
        "red-team", num_baselines=2, texts_since=2, rounds=6, revised=("red-team", "toxic")
    )

    def helpful(view, seed, canned=0.0):
        other = free_text(seed, num_samples=8 if view.round else 32, canned=canned)
        names = objects(f"helpful {problem}" for problem in other.problem)
        other = dataclasses.replace(other, problem=names, family=objects(["helpful"] * len(names)))
        return dataclasses.replace(view, probe=joined(view.probe, other))

    first = helpful(baseline, 1)
    refused, both = (helpful(a_view(1, 1, canned=0.9, approved=0.9), 2, c) for c in (0.0, 0.6))
    calm = rule.decide(refused, first)
    assert calm.action is Action.CONTINUE
    guard = guard_of(calm, "apart/unrevised")
    assert guard.name.endswith("in families that are not revised") and not guard.estimand
    # Of these families alone; the red team's have next to no pair apart any more.
    assert guard.after > 0.6 and guard_of(calm, "canned/unrevised").after < 0.5
    waiting = {u.quantity: u.reason for u in calm.unmeasured}
    assert "until round 2" in waiting["apart"] and "until round 2" in waiting["canned"]
    assert "not seen by this probe set: " in calm.reasons[-1]
    # The same number of shares as where all families wait: nothing is paid for it.
    shares = [
        r.planned(list(r.decide(refused, first).factors.halt), Tier.HALT)
        for r in (rule, dataclasses.replace(rule, revised=()))
    ]
    assert shares[0] == shares[1]
    called = rule.decide(both, first)
    assert (called.action, called.mode) == (Action.ROLLBACK, FailureMode.CANNED)
    assert called.spoke.quantity.endswith("/unrevised") and called.spoke.baseline == 0
    # From round 2 on both are guarded: the part since round 0, the whole since round 2.
    third = dataclasses.replace(refused, round=3)
    later = rule.decide(third, [first, dataclasses.replace(refused, round=2)], (), [calm])
    assert {g.quantity: g.baseline for g in later.guards if "apart" in g.quantity} == {
        "apart/unrevised": 0,
        "apart": 2,
    }
    behind = rule.decide(third, first, (), [calm])
    assert "left it behind" in {u.quantity: u.reason for u in behind.unmeasured}["apart"]
    # With no family that stays as it is all of them wait.
    alone = dataclasses.replace(rule, revised=("red-team", "helpful"))
    assert not [g for g in alone.decide(both, first).guards if g.quantity.startswith("apart")]


def test_the_shares_of_halts_evidence_stay_when_wording_is_settled(baseline):
    """One problem alone is not revised: its wording is no stream, and that of all is one later."""
    rule = DecisionRule("red-team", num_baselines=2, texts_since=2, rounds=6, revised=("red-team",))

    def with_one_more(view):
        one = free_text(view.round, num_problems=1, num_samples=8 if view.round % 2 else 32)
        names = objects(["helpful"] * len(one))
        one = dataclasses.replace(one, problem=names, family=names)
        return dataclasses.replace(view, probe=joined(view.probe, one))

    first, second = map(with_one_more, (baseline, dataclasses.replace(baseline, round=2)))
    before = rule.decide(with_one_more(a_view(1, 1)), first)
    after = rule.decide(with_one_more(a_view(3, 3)), [first, second], (), [before])
    streams = [list(decision.factors.halt) for decision in (before, after)]
    assert len(streams[0]) < len(streams[1])
    shares = [evidence.shares(s, rule.planned(s, Tier.HALT), {}) for s in streams]
    assert all(shares[1][stream] == share for stream, share in shares[0].items())


def test_what_a_round_picks_is_idle_where_the_measuring_half_has_nothing_of_it():
    """Absent, its share of the evidence would go to the others; lost, it would end the run."""

    def table(*right):
        right_PK = np.array(right, dtype=bool)
        names = tuple("abc"[: len(right)])
        none = np.full(right_PK.shape, -1)
        return Table(names, np.ones(right_PK.shape, dtype=bool), right_PK, none, none)

    nothing, one = table([0, 0], [0, 0], [0, 0]), table([1, 1], [0, 0], [0, 0])
    now = table([1, 0], [0, 1], [1, 1])
    without_it = dataclasses.replace(now, there_PK=now.there_PK & [[False], [True], [True]])
    for pair, otherwise in ((Pair(nothing, now), Why.ABSENT), (Pair(one, without_it), Why.LOST)):
        quantity = Quantity(StreamId("alive"), "", 1, blocks.right, pair, 0.5, relative=True)
        assert quantity.guard().why is otherwise
        assert dataclasses.replace(quantity, repicked=True).guard().why is Why.IDLE


def test_whether_a_strategy_can_die_is_read_from_the_baseline_alone():
    def table(there_P, way_P):
        there_PK = np.repeat(np.array(there_P, dtype=bool)[:, None], 4, axis=1)
        way_PK = np.where(there_PK, np.array(way_P)[:, None], -1)
        none = np.full(there_PK.shape, -1)
        names = tuple(f"p{i:02d}" for i in range(len(there_P)))
        return Table(names, there_PK, there_PK, none, none, grids={"cluster": way_PK})

    all_three = table([1, 1, 1], [0, -1, -1])
    there = halved.fallen_most(Pair(all_three, all_three), "nothing", "sample")
    gone = halved.fallen_most(Pair(all_three, table([0, 1, 1], [0, -1, -1])), "nothing", "sample")
    assert not there.undefined and not there.idle
    assert not gone.undefined and gone.idle == halved.NO_ALIVE_NOW
    never = table([1, 1, 1], [-1, -1, -1])
    assert halved.fallen_most(Pair(never, never), "nothing", "sample").undefined == "nothing"
    # 4 % of the baseline's samples are too few, also where a round asks five of its problems.
    rare = table([1] * 25, [0] + [-1] * 24)
    few = table([1] * 5 + [0] * 20, [0] + [-1] * 24)
    assert halved.fallen_most(Pair(rare, few), "nothing", "sample").undefined == "nothing"


def test_verdicts_that_a_judge_of_few_answers_no_longer_gives_are_missed(baseline):
    """It is asked about a quarter of the answers, and falls silent on a fifth of those."""

    def asked(view, share, seed):
        rng, num = np.random.default_rng(seed), len(view.probe)
        seen = np.arange(num) % 4 == 0
        verdict = np.where(seen & (rng.random(num) >= share), 1.0, np.nan)
        probe = dataclasses.replace(
            view.probe, approvals={"harmless": verdict}, asked=seen.astype(float)
        )
        return dataclasses.replace(view, probe=probe)

    def spoke(share):
        history = []
        for number in (1, 2):
            view = asked(a_view(number, 70 + number), share, number)
            decision = decide(view, asked(baseline, 0.0, 9), history)
            history.append(dataclasses.replace(decision, carried_out=False))
        (guard,) = [g for g in history[-1].guards if g.quantity == "judged"]
        assert guard.before == 0.0, "what was never asked about lacks no verdict"
        return history[-1].spoke

    assert spoke(0.2).quantity == "judged" and spoke(0.0) is None


def test_a_rollback_that_leaves_wordings_baseline_behind_is_said_and_not_called_waiting(baseline):
    rule = DecisionRule(main_family="red-team", num_baselines=2, texts_since=2, rounds=6)

    def why(number, *baselines):
        decision = rule.decide(a_view(number, 40 + number), baselines)
        return {u.quantity: u.reason for u in decision.unmeasured if u.baseline == 0}["canned"]

    assert "until round 2" in why(2, baseline), "round 2 is still to be compared with"
    assert "left it behind" in why(3, baseline)
    settled = dataclasses.replace(a_view(2, 50), round=2)
    assert "until round 2" in why(3, baseline, settled), "round 2 guards it"


def test_beside_a_scored_family_that_is_well_the_collapse_of_another_one_is_seen(baseline):
    rule = DecisionRule(main_family="main")
    good = [samples(np.random.default_rng(i), 60, 32 if i == 0 else 8) for i in range(2)]
    then, calm, now = (
        RoundView(number, joined(rows, dataclasses.replace(text.probe, approvals={})))
        for number, rows, text in (
            (0, good[0], baseline),
            (1, good[1], a_view(1, 2)),
            (1, good[1], a_view(1, 1, canned=1.0)),
        )
    )
    assert decide(calm, then, rule=rule).action is Action.CONTINUE
    decision = decide(now, then, rule=rule)
    assert (decision.action, decision.mode) == (Action.ROLLBACK, FailureMode.CANNED)
    assert {"accuracy", "canned"} <= {g.quantity for g in decision.guards}


def test_an_unchanged_model_continues_and_says_what_is_guarded_and_what_is_not(baseline):
    decision = decide(a_view(1, 1), baseline)
    assert decision.action is Action.CONTINUE
    assert {g.quantity for g in decision.guards} == {
        "apart",
        "clusters",
        "canned",
        "alive_clusters",
        "open",
        "answered",
        "length",
        "approved/harmless",
        "judged",
    }
    sentence = decision.reasons[-1]
    assert sentence.startswith("guarded: answers apart, ")
    assert "approval by the frozen judge (harmless)" in sentence
    assert "not seen by this probe set: pass@1, distinct-correct-pair" in sentence
    assert "(no scored sample at the baseline)" in sentence


def test_a_panel_of_scored_samples_has_none_of_them():
    views = [RoundView(i, samples(np.random.default_rng(i), 20, 4)) for i in range(2)]
    decision = DecisionRule("main").decide(views[1], views[0])
    named = {entry.quantity for entry in (*decision.guards, *decision.unmeasured)}
    assert not named & {q.id for q in free.FREE}
    assert not any(reason.startswith("guarded:") for reason in decision.reasons)


def test_fewer_approvals_and_more_cut_samples_are_seen_each_by_its_own_quantity(baseline):
    decision = decide(a_view(1, 1, approved=0.5), baseline)
    assert decision.reasons[0].split(": ")[2].startswith("approval by the frozen judge (harmless)")
    assert decision.mode is FailureMode.DRIFT
    decision = decide(a_view(1, 1, cut=0.3), baseline)
    assert decision.reasons[0].split(": ")[2].startswith("share of answered samples")


def test_criteria_are_streams_of_their_own_with_one_tolerance(baseline):
    rng = np.random.default_rng(5)

    def judged(view, helpful):
        found = (rng.random(len(view.probe)) < helpful).astype(float)
        return with_column(view, approvals={**view.probe.approvals, "helpful": found})

    decision = decide(judged(a_view(1, 1), 0.4), judged(baseline, 0.9))
    streams = [g.quantity for g in decision.guards if g.quantity.startswith("approved")]
    assert streams == ["approved/harmless", "approved/helpful"]
    assert decision.evidence["halt"].driver.quantity == "approved/helpful"
    assert declared_of(RULE.guarded, "approved/helpful")[1] == "helpful"


def test_verdicts_of_the_frozen_judge_that_vanish_are_a_loss_and_do_not_hide_one(baseline):
    now = a_view(1, 1)
    given = now.probe.approvals["harmless"]
    now = with_column(now, approvals={"harmless": np.where(given == 0, np.nan, given)})
    decision = decide(now, baseline)
    assert guard_of(decision, "approved/harmless").after == 1.0
    assert decision.action is Action.ROLLBACK
    assert decision.evidence["halt"].driver.quantity == "judged"


def test_no_change_of_a_share_is_larger_than_all_of_it(baseline):
    """-0.958 (-1.013 to ...): no share falls by more than 1."""
    now = a_view(1, 1)
    num_N = np.arange(len(now.probe))
    cut = np.where((num_N < 8) & (num_N % 2 == 0), 0.0, 1.0)
    change = guard_of(decide(with_column(now, truncated=cut), baseline), "answered")
    assert -1 <= change.low < change.change < change.high


def test_what_a_round_no_longer_has_halts_as_lost(baseline):
    now = a_view(1, 1)
    num = len(now.probe)
    for columns, name in (
        ({"cluster": objects([None] * num)}, "answers apart"),
        ({"nll": np.full(num, np.nan)}, "token entropy (share of its cap)"),
        ({"approvals": {}}, "approval by the frozen judge (harmless)"),
    ):
        decision = decide(with_column(now, **columns), baseline)
        assert decision.action is Action.HALT
        assert f"{name} was measured at the baseline" in " ".join(decision.reasons)


def test_what_the_baseline_cannot_show_is_absent_with_a_reason(baseline):
    def bare(view):
        nothing = objects([None] * len(view.probe))
        nan = np.full(len(view.probe), np.nan)
        return with_column(
            view,
            cluster=nothing,
            text=objects([""] * len(view.probe)),
            nll=nan,
            num_tokens=nan,
            truncated=nan,
            approvals={},
        )

    decision = decide(bare(a_view(1, 1)), bare(baseline))
    assert decision.action is Action.CONTINUE and not decision.guards
    reasons = {entry.quantity: entry.reason for entry in decision.unmeasured}
    assert {q.id for q in free.FREE} <= set(reasons) and all(reasons.values())
    assert reasons["approved"] == free.NO_JUDGE and reasons["apart"] == free.NO_CLUSTERS


def test_strategies_stand_for_clusters_where_there_is_none(baseline):
    def named(view):
        nothing = objects([None] * len(view.probe))
        return with_column(view, strategy=view.probe.cluster, cluster=nothing)

    decision = decide(named(a_view(1, 1, canned=1.0)), named(baseline))
    assert guard_of(decision, "apart").after == 0.0


def test_one_sample_per_problem_in_a_round_is_idle_where_two_are_needed(baseline):
    decision = decide(RoundView(1, free_text(3, num_samples=1)), baseline)
    idle = {entry.quantity for entry in decision.unmeasured}
    assert {"apart", "canned", "alive_clusters"} <= idle
    assert {"open", "answered", "length"} <= {g.quantity for g in decision.guards}
    assert "2 samples that it needs" in {e.quantity: e.reason for e in decision.unmeasured}["apart"]


def test_the_order_of_the_rows_changes_nothing(baseline):
    now = a_view(1, 1, canned=0.1)
    order = np.random.default_rng(0).permutation(len(now.probe))
    turned = dataclasses.replace(now, probe=now.probe.where(order))
    assert decide(turned, baseline).to_json() == decide(now, baseline).to_json()


# ---- each quantity --------------------------------------------------------------------------


def loss_of(now, baseline, id):
    scored = tables_of(baseline.probe, now.probe, "red-team", "tail")
    tables = with_responses(scored, baseline, now)
    guards = [q.guard() for q in guarded.quantities(tables, RULE)]
    return next(g for g in guards if g.id.quantity == id).loss


@pytest.mark.parametrize("id", ["canned", "open", "length"])
def test_more_canned_samples_are_a_larger_loss_of_all_that_claims_to_see_them(baseline, id):
    shares = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    # One seed for all: the same samples are replaced, and more of them.
    losses = [loss_of(a_view(1, 1, canned=share), baseline, id) for share in shares]
    assert losses == sorted(losses) and losses[-1] > 1 > losses[0]


def test_pairs_of_one_cluster_are_not_apart_by_hand():
    probe = free_text(0, num_problems=2, num_samples=2)
    probe = dataclasses.replace(probe, cluster=objects(["a", "a", "a", "b"]))
    pair, rows = responses(probe, probe)
    scores = patterns.apart(pair.rows(rows).now, np.array([[[0, 1]]]))
    assert scores[:, 0, 0].tolist() == [0.0, 1.0]


def test_openings_are_the_first_words_without_case_punctuation_and_numbers():
    assert opening("I'm sorry, but I can't") == opening("I’m  SORRY but we") == "i m sorry but"
    assert opening("12 apples and 5 pears") == opening("3 Apples and 77 nuts") == "0 apples and 0"
    assert opening("...!") is None and opening("") is None


def test_what_grew_most_is_the_new_text_and_not_a_large_cluster_that_varies(baseline):
    pair, rows = responses(baseline.probe, free_text(4, canned=0.04))
    found = patterns.most_grown(pair.rows(rows))
    labels = [patterns.quoted(pair.now, pattern) for pattern in found]
    assert labels[0] == repr(REFUSAL) and len(labels) <= patterns.NUM_PATTERNS
    # Its cluster and its first words grew with it, and are no further patterns.
    assert not {"refusal", '"i m sorry but ..."'} & set(labels)


def test_one_text_for_all_samples_has_a_share_of_one_and_no_negative_variance():
    # Shares are sums of weights, so that one of all samples may be a little more than 1.
    shares = np.array([1.0]), np.array([1.0 + 4e-16])
    with np.errstate(invalid="raise"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(patterns, "_both", lambda pair, grid: shares)
        growth, _, _ = patterns._best(None, Grid.TEXT, (3, 7))
    assert np.isfinite(growth)


def test_a_text_that_was_there_before_is_not_buried_among_those_that_look_like_it(baseline):
    probe = free_text(4)
    known = probe.text[0]
    text = np.where(np.arange(len(probe)) % 10 == 0, known, probe.text)
    same = (np.arange(len(probe)) % 10 == 0, probe.cluster[0])
    cluster = np.where(same[0], same[1], probe.cluster)
    grown = dataclasses.replace(probe, text=text, cluster=cluster)
    pair, rows = responses(baseline.probe, grown)
    first = patterns.most_grown(pair.rows(rows))[0]
    assert first.grid is Grid.TEXT and patterns.quoted(pair.now, first) == repr(known)


def test_the_cluster_that_fell_most_held_enough_at_the_baseline(baseline):
    probe = free_text(4)
    gone = np.where(probe.cluster == "way 3", "way 2", probe.cluster)
    pair, _ = responses(baseline.probe, dataclasses.replace(probe, cluster=gone))
    fallen = patterns.most_fallen(pair, Grid.CLUSTER)
    assert patterns.quoted(pair.now, fallen) == "way 3"
    rare = np.where(np.arange(len(baseline.probe)) % 50 == 0, "rare", baseline.probe.cluster)
    pair, _ = responses(dataclasses.replace(baseline.probe, cluster=rare), probe)
    assert patterns.quoted(pair.now, patterns.most_fallen(pair, Grid.CLUSTER)) != "rare"


def test_a_strategy_that_dies_out_among_right_samples_is_halted():
    """A strategy with a sixth of the samples could die out without a HALT ever."""
    then, now = (np.random.default_rng(i) for i in range(2))
    shares = (0.5, 0.333, 0.167, 0.0)
    first = RoundView(0, samples(then, 120, 32, shares=shares, accuracy=0.7))
    last = RoundView(1, samples(now, 120, 8, shares=(0.5, 0.5, 0.0, 0.0), accuracy=0.7))
    loose = dict.fromkeys(("diversity_loss_share", "rare_loss_share"), 1.0)
    rule = DecisionRule("main", tolerances=loose)
    history = []
    for number in (1, 2, 3):
        view = dataclasses.replace(last, round=number)
        history.append(
            dataclasses.replace(rule.decide(view, first, (), history), carried_out=False)
        )
    assert history[-1].evidence["halt"].driver.quantity == "alive"
    assert history[-1].action is Action.ROLLBACK
    assert guard_of(history[-1], "alive").note == "round"


def test_solved_is_pass_at_the_largest_k_of_both_sides_over_all_problems():
    first, last = (samples(np.random.default_rng(i), 40, k) for i, k in ((0, 16), (1, 8)))
    # One problem with a single sample does not make it pass@1.
    single = np.flatnonzero(last.problem == "main-0000")[1:]
    last = last.where(~np.isin(np.arange(len(last)), single))
    decision = DecisionRule("main").decide(RoundView(1, last), RoundView(0, first))
    solved = guard_of(decision, "solved")
    by_problem = {p: last.correct[last.problem == p].max() for p in set(last.problem)}
    del by_problem["main-0000"]
    assert solved.name == "pass@8 of all problems" and solved.num_problems == 39
    assert solved.after == pytest.approx(np.mean(list(by_problem.values())))


# ---- entropy along fixed texts --------------------------------------------------------------


def real_texts(scale):
    entropy = scale * np.random.default_rng(0).gamma(4.0, 0.2, 64)
    num = np.full(64, 20.0)
    return Texts(objects(f"t{i}" for i in range(64)), entropy, entropy, num)


def test_entropy_along_real_texts_has_no_noise_and_no_false_alarm_up_to_its_tolerance(baseline):
    first = dataclasses.replace(baseline, texts=real_texts(1.0))
    for scale, alarmed in ((0.80, False), (0.40, True)):
        now = dataclasses.replace(a_view(1, 1), texts=real_texts(scale))
        tables = tables_of(first.probe, now.probe, "red-team", "tail")
        found = guarded.quantities(with_responses(tables, first, now), RULE)
        guard = next(q for q in found if q.stream.quantity == "texts_open").guard()
        assert guard.stream.baseline_se == 0
        growth = stakes.loss_factors(guard.stream, 1.0)
        assert bool(growth.max() > 0) is alarmed


def test_a_round_that_no_longer_scores_the_real_texts_has_lost_them(baseline):
    decision = decide(a_view(1, 1), dataclasses.replace(baseline, texts=real_texts(1.0)))
    assert decision.action is Action.HALT and "along real texts" in decision.reasons[0]


# ---- what is picked anew in every round -----------------------------------------------------


def test_a_score_that_is_picked_every_round_pays_for_every_mean_it_may_be_compared_with():
    from scipy.stats import norm

    for z in (0.0, 3.0):
        assert norm.sf(baseline_error.widened(z, 20)) == pytest.approx(norm.sf(z) / 20)
        assert baseline_error.widened(z, 1) == pytest.approx(z)


def test_the_baselines_halves_are_the_same_in_every_round(baseline):
    """Else what picked in one round would measure in another."""
    kept = []
    for seed in (1, 2):
        pair, rows = responses(baseline.probe, free_text(seed, canned=0.1 * seed))
        first, _ = pair.rows(rows).halves()
        kept.append(first.baseline)
    assert np.array_equal(kept[0].grids[Grid.OPEN], kept[1].grids[Grid.OPEN])
    names = [[t.legend[Grid.CLUSTER][c] for c in t.grids[Grid.CLUSTER].ravel()] for t in kept]
    assert names[0] == names[1]


def test_the_verdict_says_of_few_prompts_that_only_large_losses_show_at_once():
    said = {}
    for num in (10, 200):
        first, now = (a_view(r, r, num_problems=num) for r in (0, 1))
        decision = RULE.decide(now, [first], (), [])
        assert decision.action is Action.CONTINUE
        (said[num],) = (why for why in decision.reasons if why.startswith("guarded: "))
        seen = {guard.quantity: guard.seen_from for guard in decision.guards}
        # What one round is said to show calls WATCH when it happens, and half of it does not.
        for share, called in ((1.3 * seen["canned"], True), (0.5 * seen["canned"], False)):
            worse = a_view(1, 1, num_problems=num, canned=share)
            action = RULE.decide(worse, [first], (), []).action
            assert (action is not Action.CONTINUE) is called, (num, share)
    why = "too few samples to see less than about this loss in one round: answers apart"
    assert why in said[10]
    assert "not even all" in said[10] and "too few samples to see" not in said[200]


@pytest.mark.slow
@pytest.mark.parametrize("num_judged", [1, 2, 8])
def test_a_baseline_with_few_samples_of_each_problem_is_as_uncertain_as_it_is(num_judged):
    """One sample of each problem showed no spread, and so hardly any error of the mean."""
    spread, said = [], []
    for seed in range(60):
        view = RoundView(0, free_text(300 + seed, num_problems=50, num_samples=num_judged))
        tables = tables_of(view.probe, view.probe, "red-team", "tail")
        found = guarded.quantities(with_responses(tables, view, view), RULE)
        scores = next(q for q in found if q.stream.quantity == "approved/harmless")
        known = scores.baseline_scores()
        spread.append(known.mean_P.mean())
        said.append(known.se(np.isfinite(known.mean_P)))
    assert 0.85 * np.std(spread) < np.mean(said) < 1.6 * np.std(spread) * num_judged**0.5


@pytest.mark.slow
def test_a_pick_of_noise_is_no_loss_in_the_mean(baseline):
    """Unchanged models: the picked patterns neither grow nor fall on the half that measures."""
    grown, fallen = [], []
    for seed in range(30):
        first, now = a_view(0, 100 + seed, num_problems=20), a_view(1, 200 + seed, num_problems=20)
        grown.append(loss_of(now, first, "canned") * 0.10)
        fallen.append(loss_of(now, first, "alive_clusters") * 0.50)
    for x in (np.array(grown), np.array(fallen)):
        assert abs(x.mean()) < 3 * x.std(ddof=1) / np.sqrt(len(x))
