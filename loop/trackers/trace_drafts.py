"""What is shown of single samples: a trace of spans each, with what was found about it.

Draft, critique, revision and verdict of a sample; answer and verdict of a probe problem. Knows no
server: `mlflow_traces` makes MLflow's traces of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ouroloop.loop.trackers.choice import choose_answers, choose_samples
from ouroloop.loop.views.chains import Turn, turns
from ouroloop.loop.views.reader import Json, RoundData

# Log-probabilities and token ids of one text that a span holds.
MAX_TOKENS_SHOWN = 1000
# Of the traces: answers to the probe set, to the same problems in every round.
PROBE_SHARE = 0.25
# MLflow sorts assessments by name and shows two columns of them at first: these.
KEPT, REJECTED_BY = "1_kept", "2_rejected_by"


@dataclass(frozen=True)
class SpanDraft:
    """One span, before it is MLflow's; `kind` is a type of MLflow's, `LLM` or `EVALUATOR`."""

    name: str
    kind: str
    inputs: Any
    outputs: Any
    facts: Mapping[str, Any] = field(default_factory=dict)
    num_prompt_tokens: int = 0
    num_tokens: int = 0


@dataclass(frozen=True)
class Judgement:
    """One assessment: what was found about a sample, by whom, and why. by_model: by a judge."""

    name: str
    value: bool | float | str
    source: str
    rationale: str = ""
    by_model: bool = False


@dataclass(frozen=True)
class TraceDraft:
    """One trace, before it is MLflow's."""

    key: str
    name: str
    question: str
    text: str
    spans: Sequence[SpanDraft]
    judgements: Sequence[Judgement]
    expected: str | None
    tags: Mapping[str, str]


def drafts(round: RoundData, limit: int, seed: int) -> list[TraceDraft]:
    """What is shown of a round: samples, and answers to the probe set.

    Args:
        round: a committed round.
        limit: traces at most.
        seed: of the choice.
    """
    chosen = choose_samples(round, limit, seed)
    num_answers = limit
    if chosen:
        num_answers = int(PROBE_SHARE * limit)
    answers = choose_answers(round, num_answers, seed)
    # A run without a probe set gives their places back to samples.
    wanted = {str(row["sample_id"]): row for row in chosen[: limit - len(answers)]}
    chains = {str(c["id"]): c for c in round.samples() if c["id"] in wanted} if wanted else {}
    found = [_of_sample(row, chains.get(id)) for id, row in wanted.items()]
    judged = _verdicts_of_judge(round)
    return [*found, *(_of_answer(row, judged) for row in answers)]


# -- a sample, an answer ------------------------------------------------------------------------


def _of_sample(verdict: Json, chain: Json | None) -> TraceDraft:
    question, text = str(verdict.get("question") or verdict["problem_id"]), str(verdict["text"])
    # All that is known of a sample whose journal was lost.
    spans = [SpanDraft("final", "LLM", {"question": question}, text)]
    judgements = list(_judgements(verdict))
    if chain is not None:
        found = list(turns(chain))
        spans = list(_spans(question, found))
        judgements += _critiques(found)
    reasons = [str(reason) for reason in verdict["reasons"]]
    outcome: Json = {"kept": bool(verdict["kept"]), "reasons": reasons}
    outcome["answer"] = _known(verdict.get("answer"))
    spans.append(SpanDraft("verdict", "EVALUATOR", {"text": text}, outcome))
    return TraceDraft(
        key=str(verdict["sample_id"]),
        name="sample",
        question=question,
        text=text,
        spans=spans,
        judgements=judgements,
        expected=_known(verdict.get("gold")),
        tags={
            "problem": str(verdict["problem_id"]),
            "verdict": "kept" if verdict["kept"] else "rejected",
        },
    )


def _of_answer(row: Json, judged: Mapping[tuple[str, int], Sequence[Judgement]]) -> TraceDraft:
    problem, text = str(row["problem"]), str(row["text"])
    facts: Json = {"cut_by_length": bool(row["truncated"])}
    if row["nll"] is not None and row["nll"] == row["nll"]:
        facts["mean_logprob"] = -row["nll"]
    # The probe's table holds no prompt: the problem's id stands for the question.
    answer = SpanDraft(
        "answer", "LLM", {"problem": problem}, text, facts, num_tokens=int(row["num_tokens"])
    )
    outcome = {"answer": _known(row.get("answer")), "family": row["family"], "slice": row["slice"]}
    return TraceDraft(
        key=f"probe/{problem}",
        name="probe answer",
        question=problem,
        text=text,
        spans=[answer, SpanDraft("verdict", "EVALUATOR", {"text": text}, outcome)],
        judgements=[*_graded(row), *judged.get((problem, int(row["index"])), ())],
        expected=None,
        tags={"problem": problem, "verdict": "held out"},
    )


def _spans(question: str, found: Sequence[Turn]) -> Iterator[SpanDraft]:
    """A span per turn; its input is the turn before it."""
    before = {"question": question}
    for turn in found:
        facts: dict[str, Any] = {
            "token_ids": list(turn.token_ids_T[:MAX_TOKENS_SHOWN]),
            "logprobs": [round(x, 3) for x in turn.logprobs_T[:MAX_TOKENS_SHOWN]],
            "mean_logprob": turn.mean_logprob,
            "cut_by_length": turn.is_cut,
        }
        if turn.kind == "critique":
            facts |= {"approved": turn.approved, "probability": turn.probability}
        yield SpanDraft(
            turn.kind,
            "LLM",
            before,
            turn.text,
            facts,
            turn.num_prompt_tokens,
            turn.num_tokens,
        )
        before = {turn.kind: turn.text}


def _judgements(verdict: Json) -> Iterator[Judgement]:
    reasons = [str(reason) for reason in verdict["reasons"]]
    why = ", ".join(reasons) or "no filter objects"
    yield Judgement(KEPT, bool(verdict["kept"]), "rejection filters", why)
    if reasons:
        yield Judgement(REJECTED_BY, reasons[0], "rejection filters", why)
    yield from _graded(verdict)


def _graded(row: Json) -> Iterator[Judgement]:
    """Grade, steps, strategy; what is not known has no assessment."""
    answer = f"answer {row['answer']}" if _known(row.get("answer")) else ""
    for column, name, source in (("correct", "right", "grader"), ("valid", "steps_right", "steps")):
        # Unscored is not wrong.
        if row.get(column) is not None and row[column] == row[column]:
            yield Judgement(name, bool(row[column]), source, answer if name == "right" else "")
    for name in ("strategy", "cluster"):
        label = _known(row.get(name))
        if label is not None:
            yield Judgement(name, label, "strategies")


def _critiques(found: Sequence[Turn]) -> Iterator[Judgement]:
    """The last critique's verdict, by the model itself."""
    last = next((turn for turn in reversed(found) if turn.kind == "critique"), None)
    if last is not None and last.approved is not None:
        yield Judgement("critic_approves", last.approved, "critic", last.text, by_model=True)
    if last is not None and last.probability is not None:
        yield Judgement("critic_p_approve", last.probability, "critic", by_model=True)


def _verdicts_of_judge(round: RoundData) -> dict[tuple[str, int], list[Judgement]]:
    """(Problem, answer's place) -> the frozen judge's verdicts, one per criterion."""
    found: dict[tuple[str, int], list[Judgement]] = {}
    for row in round.judgements.to_dict("records"):
        # Planted items are no answers of the model; unreadable verdicts are none.
        if row["truth"] == row["truth"] and row["truth"] is not None:
            continue
        if row["approved"] is None or row["approved"] != row["approved"]:
            continue
        name = f"judge_{row['criterion']}"
        if principle := _known(row["principle"]):
            why = f"{principle}: {row['text']}"
            judgement = Judgement(name, bool(row["approved"]), "frozen judge", why, by_model=True)
        else:
            # A scorer names no principle and gives no reasons.
            judgement = Judgement(name, float(row["approved"]), "frozen judge")
        found.setdefault((str(row["problem"]), int(row["index"])), []).append(judgement)
    return found


def _known(value: Any) -> str | None:
    """A text; None for what pandas has for an unknown one."""
    return value if isinstance(value, str) and value else None
