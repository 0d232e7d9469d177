"""What a round's files hold: one frozen record per row of a table, or per JSON file.

The files' columns and keys are derived from the fields here (`tables.py`), in this order; their
names are in `round.py`. Undefined is None, never 0; unscored is not wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

# Token ids and round numbers fit, and they are most of what a training set holds.
Int32 = Annotated[int, "int32"]
TokenIds = tuple[Int32, ...]
# Where an example comes from. kept: this round's samples. earlier: those of the rounds that the
# model descends from. gold: traces that came with the round's problems. Replayed: demonstration
# (real data), archive (verified samples of earlier rounds), baseline (samples of round 0's model).
Origin = Literal["kept", "earlier", "gold", "demonstration", "archive", "baseline"]
# Why one text of a preference pair is the better one (`pairs.sources`).
PairOrigin = Literal["revision", "compared", "gold"]
AnyOrigin = Literal[Origin, PairOrigin]
By = Literal["question", "near", "text"]


@dataclass(frozen=True)
class Verdict:
    """The rejection filters' verdict on one sample: kept, or every reason against it.

    unreadable: readers that failed on the text, "ValueError in dataflow"; their values are None.
    cluster: the response cluster's label; None where none were fitted. like_critique, like_draft:
    of a revision, the likeness to the critique that it answers and to the text that it revises.
    """

    sample_id: str
    problem_id: str
    question: str
    gold: str | None
    text: str
    kept: bool
    reasons: tuple[str, ...]
    answer: str | None
    correct: bool | None
    valid: bool | None
    strategy: str | None
    approved: bool | None
    agreement: float | None
    temperature: float
    num_tokens: int
    revised: bool
    # Fields with a default came later: tables of runs that were made before lack the column.
    slice: str | None = None
    unreadable: tuple[str, ...] = ()
    cluster: str | None = None
    like_critique: float | None = None
    like_draft: float | None = None


@dataclass(frozen=True)
class Example:
    """One row of a training set: token ids, where it came from and why.

    learnt_prompt_positions: places in the prompt that are learnt beside the completion, those of
    earlier assistant turns (`dataset.learn_turns: all`).
    """

    problem_id: str
    prompt_token_ids: TokenIds
    completion_token_ids: TokenIds
    text: str
    origin: Origin
    round: Int32
    strategy: str | None = None
    sample_id: str | None = None
    learnt_prompt_positions: TokenIds = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is learnt."""
        return (self.text,)


@dataclass(frozen=True)
class Pair:
    """One row of a preference round's training set: of two texts on a prompt the better one.

    probability: that `chosen` is the better one, by the model that compared them, under
    `principle`.
    """

    problem_id: str
    prompt_token_ids: TokenIds
    chosen_token_ids: TokenIds
    rejected_token_ids: TokenIds
    chosen: str
    rejected: str
    origin: PairOrigin
    round: Int32
    chosen_id: str
    rejected_id: str
    probability: float | None = None
    principle: str | None = None


@dataclass(frozen=True)
class ProbeRow:
    """One answer to a problem of the probe set.

    nll: nats per token, None when not known. unreadable, cluster: as in `Verdict`. num_fit_tokens:
    on a problem's greedy answer, tokens of its samples that only response clusters were fitted on.
    """

    problem: str
    family: str
    slice: str
    kind: Literal["sample", "greedy"]
    correct: float | None
    valid: float | None
    strategy: str | None
    answer: str | None
    nll: float | None
    # Numbers, not flags: the monitors take means of them, and what is not known is null.
    num_tokens: float
    truncated: float
    text: str
    unreadable: tuple[str, ...] = ()
    cluster: str | None = None
    num_fit_tokens: float | None = None


@dataclass(frozen=True)
class CritiqueRow:
    """One critique of a sample of the probe set, beside the truth.

    correct: whether the judged text is right. agreement: its answer's share among the problem's
    other samples. num_tokens: of the critique.
    """

    problem: str
    approved: float | None
    probability: float | None
    correct: float | None
    agreement: float | None
    text: str | None = None
    num_tokens: float | None = None


@dataclass(frozen=True)
class JudgementRow:
    """What the frozen judge made of one text under one criterion.

    index: of the answer among its problem's samples. principle: None of a scorer. approved: a
    verdict, or a score in [0, 1]; None when it could not be read. truth: whether a planted item
    deserves approval; None for an answer to the probe set. num_tokens: of the judge's prompt and
    verdict; 0 for a prompt that a server does not count. num_sampled: of the verdict alone.
    """

    problem: str
    family: str
    index: int
    criterion: str
    principle: str | None
    approved: float | None
    probability: float | None
    num_tokens: float
    truth: float | None
    text: str
    num_sampled: float | None = None


@dataclass(frozen=True)
class TextRow:
    """A real text under the round's model: means over its tokens, the stop token among them.

    nll, entropy: nats per token; None where the text did not fit into the engine's context. exact:
    False when `entropy` is a lower bound.
    """

    problem: str
    family: str
    nll: float | None
    entropy: float | None
    exact: bool | None
    num_tokens: float | None
    text: str | None


@dataclass(frozen=True)
class DroppedRow:
    """A sample that was dropped: no server gave a usable answer to one of its requests."""

    sample_id: str
    problem_id: str
    why: str


@dataclass(frozen=True)
class TraceRow:
    """An answer of round 0's model, chosen once, under the round's model.

    group: its strategy; its response cluster where nobody scored the problem. share: of the
    problem's answers in round 0, those of the group (right ones, where scored). logprob: nats, sum
    over the tokens at temperature 1, with the stop token; None where the text did not fit.
    """

    problem: str
    family: str
    slice: str
    group: str
    share: float
    logprob: float | None
    num_tokens: float | None
    text: str


@dataclass(frozen=True)
class AuditRow:
    """A planted item of known truth, as the rejection filters of the round judged it.

    accepted: None when there was no room to ask the critic, or no item could be made. unreadable:
    as in `Verdict`; the corrupter may fail too. num_tokens: of the critique; 0 without one.
    """

    problem: str
    kind: str
    right: float
    accepted: float | None
    reasons: tuple[str, ...]
    approved: float | None
    probability: float | None
    text: str
    unreadable: tuple[str, ...] = ()
    num_tokens: float | None = None


@dataclass(frozen=True)
class StartPlan:
    """The plan of round 0: the starting model as it is."""

    round: int = 0
    start_from: int = 0
    why: tuple[str, ...] = ("the starting model, before any training",)


@dataclass(frozen=True)
class RoundPlan:
    """What a round sets out to do.

    Attributes:
        sample_from: the round whose checkpoint drafts; 0 is the base model.
        start_from: the round whose checkpoint training starts from.
        temperatures: of the drafts, dealt out in turn.
        replay_fraction: share of the training set that is replayed.
        per_strategy: share of the kept samples that one strategy may have.
        archive: whether replay brings the strategies back to round 0's shares.
        num_problems: how many problems are drawn.
        why: sentences.
        distinct: one kept sample per distinct calculation of a problem.
        per_answer, per_cluster: share of the kept samples of one answer, one response cluster.
        tail_weight: how much likelier problems of the tail slice are drawn.
        blend: weight of the parameters of round `blend_with` in what training starts from.
        teachers: rounds whose checkpoints draft a share of the problems beside `sample_from`.
        demonstrations: share of what is replayed that is demonstrations drawn evenly; the rest,
            once `archive`, brings the strategies back, verified samples of earlier rounds first.
        stage: the recipe's stage that the round belongs to, from 1.
        objective: what the round trains with.
    """

    round: int
    sample_from: int
    start_from: int
    temperatures: tuple[float, ...]
    replay_fraction: float
    per_strategy: float | None
    archive: bool
    num_problems: int
    why: tuple[str, ...] = ()
    distinct: bool = False
    per_answer: float | None = None
    per_cluster: float | None = None
    tail_weight: float = 1.0
    blend: float = 0.0
    blend_with: int = 0
    teachers: tuple[int, ...] = ()
    demonstrations: float = 1.0
    stage: int = 1
    objective: str = "sft"


class PreflightAction(StrEnum):
    """What the preflight check does with a round."""

    PASS = "pass"
    ADJUST = "adjust"
    BLOCK = "block"


@dataclass(frozen=True)
class Preflight:
    """The preflight check's verdict on the samples that the filters would keep.

    Attributes:
        reasons: sentences with numbers.
        replay_fraction, per_answer, per_cluster: of the round plan, after an adjustment.
        starved: too few samples were kept to train on. It changes nothing; the decision rule acts.
    """

    action: PreflightAction
    reasons: tuple[str, ...]
    replay_fraction: float
    per_answer: float | None
    starved: bool = False
    per_cluster: float | None = None


@dataclass(frozen=True)
class Copy:
    """An example that was left out of a training set: a held-out question, or a text that holds it.

    by: the same question, a near copy of it, or a text (solution, draft, revision) that holds one.
    """

    problem_id: str
    origin: AnyOrigin
    by: By
    question: str


@dataclass(frozen=True)
class Screened:
    """What decontamination left out of a round's training set: `copies` of `num_examples`."""

    num_examples: int
    copies: tuple[Copy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """What came of a round's training. The trainer's file holds more, which the views show.

    status: rejected, where the loss or a weight stopped being finite. checkpoint: the one that the
    round stands on, relative to the run or absolute; the one it started from unless it was trained.
    seconds: wall clock, 0 when nothing was trained.
    """

    status: Literal["trained", "skipped", "rejected"]
    reason: str | None = None
    checkpoint: str
    num_examples: int
    seconds: float = 0.0
