"""A sample with all that can be known of it, as filters and audit look at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ouroloop.evals.tasks import Task
from ouroloop.loop.records import Completion, Problem, Sample
from ouroloop.loop.stages import clustering
from ouroloop.loop.stages.judging import Strategy, Value, judge_text
from ouroloop.monitors.fence import Unreadable
from ouroloop.monitors.metrics.revisions import likeness


@dataclass(frozen=True)
class Case:
    """A sample with all that can be known of it.

    None: not known; a filter never rejects for what is not known, except where it says so.
    like_critique, like_draft: as in `rows.Verdict`.
    """

    sample: Sample
    problem: Problem
    answer: str | None
    correct: bool | None
    valid: bool | None
    strategy: str | None
    agreement: float | None
    cluster: str | None = None
    like_critique: float | None = None
    like_draft: float | None = None
    unreadable: Mapping[Value, Unreadable] = field(default_factory=dict)
    is_closed: bool = True
    """Whether something follows its thought, where the recipe says that texts begin with one."""

    @property
    def text(self) -> str:
        """The text that is judged."""
        return self.sample.final.text

    @property
    def is_finished(self) -> bool:
        """Whether it ended by itself; a text cut by length is never trained on."""
        return self.sample.final.finish_reason == "stop"


def examine(
    samples: Sequence[Sample],
    problems: Mapping[str, Problem],
    task: Task,
    strategy: Strategy,
    responses: clustering.Responses | None = None,
) -> list[Case]:
    """Grade, check and name every sample, and count the vote share of its answer.

    The vote share is the answer's share among all samples of the same problem.

    Source: self-consistency, Wang et al. 2203.11171.
    """
    read_N = [judge_text(problems[s.problem_id], s.final.text, task, strategy) for s in samples]
    # Unreadable answers count as asked, and vote for nothing.
    asked = Counter(sample.problem_id for sample in samples)
    votes = Counter(
        (sample.problem_id, read.grade.answer) for sample, read in zip(samples, read_N, strict=True)
    )
    texts = [(problems[s.problem_id], s.final.text) for s in samples]
    label_N = clustering.labels(responses, texts)
    cases = []
    for sample, read, label in zip(samples, read_N, label_N, strict=True):
        agreement = None
        if read.grade.answer is not None:
            voted = votes[sample.problem_id, read.grade.answer]
            agreement = voted / asked[sample.problem_id]
        critique = sample.answered_critique
        case = Case(
            sample=sample,
            problem=problems[sample.problem_id],
            answer=read.grade.answer,
            correct=read.grade.correct,
            valid=read.valid,
            strategy=read.strategy,
            agreement=agreement,
            cluster=label,
            like_critique=_likeness(sample, critique.completion if critique else None),
            like_draft=_likeness(sample, sample.revised_from),
            unreadable=read.unreadable,
            is_closed=read.grade.is_closed,
        )
        cases.append(case)
    return cases


def _likeness(sample: Sample, before: Completion | None) -> float | None:
    """How like a text that came before it the final one is; None where there was none."""
    return None if before is None else likeness(sample.final.text, before.text)
