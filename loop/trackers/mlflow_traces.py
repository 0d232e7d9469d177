"""A round's samples as MLflow traces: draft, critique, revision and verdict as spans.

A trace's id is hashed from the run, the round and the sample, so that a sync that was cut off and
is repeated writes the same traces again and none twice. When a text was written is not recorded:
all traces of a round bear the time at which it was committed, and a span lasts a millisecond.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from ouroloop.loop.trackers.points import committed_at
from ouroloop.loop.trackers.trace_drafts import SpanDraft, TraceDraft
from ouroloop.loop.views.reader import RoundData, RunData

MS, NS_PER_MS = 1, 1_000_000
# MLflow's list shows the beginning of a text; the spans hold all of it.
PREVIEW_LENGTH = 1000
# MLflow links as many traces to a run in one call.
MAX_LINKED = 100


def log_traces(
    run: RunData,
    round: RoundData,
    found: Sequence[TraceDraft],
    uri: str,
    experiment: str,
    child: str,
) -> list[str]:
    """Write traces to MLflow, as those of a round's run; returns their ids."""
    from mlflow.tracing.client import TracingClient

    client = TracingClient(uri)
    ids, spans = [], []
    for place, draft in enumerate(found):
        info, own_spans = _entities(run, round, draft, place, experiment, child)
        client.start_trace(info)
        ids.append(info.trace_id)
        spans += own_spans
    # One transaction for all spans; the traces' own rows take one each.
    if spans:
        client.log_spans(experiment, spans)
    return ids


def link(client: Any, ids: Sequence[str], run_id: str) -> None:
    """Show traces on the page of one more run: the parent's."""
    for start in range(0, len(ids), MAX_LINKED):
        client.link_traces_to_run(list(ids[start : start + MAX_LINKED]), run_id)


# -- as MLflow's own ----------------------------------------------------------------------------


def _entities(
    run: RunData, round: RoundData, draft: TraceDraft, place: int, experiment: str, child: str
) -> tuple[Any, list[Any]]:
    """The trace's TraceInfo and its Spans."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    digest = hashlib.sha256(f"{child}/{draft.key}".encode()).hexdigest()
    # The lengths are OpenTelemetry's: 128 bits for a trace, below 64 for a span.
    id = f"tr-{digest[:32]}"
    # MLflow lists the latest trace first: what was chosen first shall stand first.
    began = committed_at(round) - place * MS
    info = TraceInfo(
        trace_id=id,
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=began,
        state=TraceState.OK,
        request_preview=draft.question[:PREVIEW_LENGTH],
        response_preview=draft.text[:PREVIEW_LENGTH],
        client_request_id=draft.key,
        execution_duration=len(draft.spans) * MS,
        trace_metadata={
            "mlflow.sourceRun": child,
            # The round first: MLflow's column shows seven characters.
            "mlflow.trace.session": f"r{round.number:02d}/{run.name}",
        },
        tags={
            "mlflow.traceName": draft.name,
            "ouroloop.round": str(round.number),
            **{f"ouroloop.{name}": value for name, value in draft.tags.items()},
        },
        assessments=list(_assessments(draft, id, began)),
    )
    return info, list(_span_entities(draft, id, digest, began))


def _span_entities(draft: TraceDraft, id: str, digest: str, began: int) -> Iterator[Any]:
    """The root, and below it one span after the other."""
    # Ids from the digest: a repeated sync writes over the same rows.
    root = _span_id(digest, 0)
    inputs, outputs = {"question": draft.question}, {"text": draft.text}
    whole = SpanDraft(draft.name, "CHAIN", inputs, outputs)
    yield _span(whole, id, root, None, began, began + len(draft.spans) * MS)
    for i, span in enumerate(draft.spans):
        yield _span(span, id, _span_id(digest, i + 1), root, began + i * MS, began + (i + 1) * MS)


def _span(
    draft: SpanDraft, trace_id: str, span_id: str, parent: str | None, start: int, end: int
) -> Any:
    from mlflow.entities import Span

    attributes: dict[str, Any] = {
        "mlflow.traceRequestId": trace_id,
        "mlflow.spanType": draft.kind,
        "mlflow.spanInputs": draft.inputs,
        "mlflow.spanOutputs": draft.outputs,
        **{name: value for name, value in draft.facts.items() if value is not None},
    }
    if draft.num_tokens:
        attributes["mlflow.chat.tokenUsage"] = {
            "input_tokens": draft.num_prompt_tokens,
            "output_tokens": draft.num_tokens,
            "total_tokens": draft.num_prompt_tokens + draft.num_tokens,
        }
    values = {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()}
    plain: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": span_id,
        "parent_span_id": parent,
        "name": draft.name,
        "start_time_unix_nano": start * NS_PER_MS,
        "end_time_unix_nano": end * NS_PER_MS,
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": values,
        "events": [],
        "links": [],
    }
    return Span.from_dict(plain)


def _span_id(digest: str, place: int) -> str:
    return hashlib.sha256(f"{digest}/{place}".encode()).hexdigest()[:16]


def _assessments(draft: TraceDraft, trace_id: str, at: int) -> Iterator[Any]:
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    shared: dict[str, Any] = {"trace_id": trace_id, "create_time_ms": at, "last_update_time_ms": at}
    made = []
    for found in draft.judgements:
        kind = "LLM_JUDGE" if found.by_model else "CODE"
        source = AssessmentSource(source_type=kind, source_id=found.source)
        made.append(
            Feedback(
                name=found.name,
                value=found.value,
                source=source,
                rationale=found.rationale or None,
                **shared,
            )
        )
    if draft.expected is not None:
        source = AssessmentSource(source_type="CODE", source_id="gold answer")
        made.append(Expectation(name="gold", value=draft.expected, source=source, **shared))
    for assessment in made:
        # An id of its own keeps a repeated sync from adding it twice.
        key = f"{trace_id}/{assessment.name}"
        assessment.assessment_id = f"a-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        yield assessment
