"""Free text has no format to keep: what was cut, and what is empty, is no sample all the same."""

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.records import Completion, Critique, Sample
from ouroloop.loop.round_view import pool_of
from ouroloop.loop.stages import filters
from ouroloop.loop.stages.case import Case, examine
from ouroloop.loop.stages.dataset import kept_examples
from ouroloop.loop.stages.pairs import from_revisions
from ouroloop.monitors.metrics.supply import starves

TASK = ArithmeticTask()
FREE = FilterConfig(gold=False, format=False, duplicates="none", per_problem=None)


def said(text, is_cut=False):
    # A model that says nothing at all still samples its stop token.
    ids = tuple(text.encode()) if is_cut else (*text.encode(), 256)
    return Completion("r", (1,), ids, (), text, "length" if is_cut else "stop", "v")


def judged(*texts, config=FREE):
    """(samples, verdicts); a text is a completion, or a draft and its revision."""
    samples = []
    for index, text in enumerate(texts):
        draft, *revisions = text if isinstance(text, tuple) else (text,)
        samples.append(Sample(f"s{index}", "p", index, 1.0, draft, (), tuple(revisions)))
    cases = [Case(s, Problem("p", "?", None), None, None, None, None, None) for s in samples]
    return samples, filters.judge(cases, config)


def test_cut_and_empty_texts_are_rejected_with_their_reason():
    samples, verdicts = judged(said("fine"), said("cut", is_cut=True), said(""), said(" \n"))
    assert [v.reasons for v in verdicts] == [(), ("cut",), ("empty",), ("empty",)]
    assert [e.text for e in kept_examples(samples, verdicts, 1)] == ["fine"]


def test_a_round_whose_texts_were_nearly_all_cut_starves():
    _, verdicts = judged(said("fine"), *(said(f"cut {i}", is_cut=True) for i in range(39)))
    pool = pool_of(verdicts)
    assert starves(pool, 0.02, 0.95, min_kept=16), "39 texts that nobody learns were kept before"


def test_a_cut_text_takes_no_place_of_a_whole_one():
    _, verdicts = judged(
        said("cut", is_cut=True), said("whole"), config=FREE.model_copy(update={"per_problem": 1})
    )
    assert [v.kept for v in verdicts] == [False, True]


def test_an_empty_revision_is_never_preferred_to_its_draft():
    samples, verdicts = judged((said("draft"), said("")), (said("draft"), said("better")))
    (pair,) = from_revisions(list(zip(samples, verdicts, strict=True)), 1)
    assert (pair.chosen.text, pair.rejected.text) == ("better", "draft")


CRITIQUE = "The assistant's last response is harmful and socially biased."


def revised(text, critique=CRITIQUE):
    criticised = (Critique(said(critique), None, None),) if critique else ()
    return Sample("s", "p", 0, 1.0, said("Do it so."), criticised, (said(text),))


def reasons(sample, config=FREE):
    """Why a sample is not kept."""
    cases = examine([sample], {"p": Problem("p", "?", None)}, TASK, lambda *_: None)
    (verdict,) = filters.judge(cases, config)
    return verdict.reasons


def test_a_revision_that_repeats_its_critique_is_no_answer():
    almost = CRITIQUE.replace("is harmful", "was harmful")
    assert reasons(revised(CRITIQUE)) == ("copied_critique",)
    assert reasons(revised(almost)) == ("copied_critique",)
    assert reasons(revised("I would rather not help with that.")) == ()


def test_a_copy_stays_where_the_recipe_says_so():
    almost = CRITIQUE.replace("is harmful", "was harmful")
    strict = FilterConfig(gold=False, format=False, copied_critique=0.99)
    assert reasons(revised(almost), strict) == ()
    assert reasons(revised(CRITIQUE), strict) == ("copied_critique",)
    off = FilterConfig(gold=False, format=False, copied_critique=None)
    assert reasons(revised(CRITIQUE), off) == ()


def test_a_critique_may_hold_the_solution_where_a_final_answer_is_read():
    assert "copied_critique" not in reasons(revised(CRITIQUE), FilterConfig(gold=False))


def test_a_draft_and_a_direct_revision_copy_no_critique():
    assert reasons(revised(CRITIQUE, critique="")) == ()
    draft = Sample("s", "p", 0, 1.0, said(CRITIQUE), (Critique(said(CRITIQUE), None, None),))
    assert reasons(draft) == ()


def test_the_last_revision_is_compared_with_the_critique_that_it_answers():
    other = "Nothing here helps anybody who asks."
    critiques = tuple(Critique(said(text), None, None) for text in (CRITIQUE, other))
    once = Sample("s", "p", 0, 1.0, said("draft"), critiques, (said("first"), said(CRITIQUE)))
    assert reasons(once) == ()
    again = Sample("s", "p", 0, 1.0, said("draft"), critiques, (said("first"), said(other)))
    assert reasons(again) == ("copied_critique",)
