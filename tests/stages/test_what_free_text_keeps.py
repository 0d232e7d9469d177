"""Free text has no format to keep: what was cut, and what is empty, is no sample all the same."""

from ouroloop.evals.tasks import Problem
from ouroloop.loop.config import FilterConfig
from ouroloop.loop.records import Completion, Sample
from ouroloop.loop.round_view import pool_of
from ouroloop.loop.stages import filters
from ouroloop.loop.stages.dataset import kept_examples
from ouroloop.loop.stages.pairs import from_revisions
from ouroloop.monitors.metrics.supply import starves

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
    cases = [
        filters.Case(s, Problem("p", "?", None), None, None, None, None, None) for s in samples
    ]
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
