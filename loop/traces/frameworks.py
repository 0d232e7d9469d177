"""What other training and evaluation frameworks write, as the rows of docs/traces.md.

One entry of `FRAMEWORKS` for each: how one of its records becomes rows. A record with a step joins
the round of that step, whatever file it stands in; without one, every file is a round.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ouroloop.loop.traces.records import SUFFIXES, read_records
from ouroloop.loop.traces.scoring import Record, Scoring, listed
from ouroloop.loop.traces.sorting import RowsByRound
from ouroloop.loop.traces.steps import Steps
from ouroloop.loop.traces.texts import asked, exchange, is_chat, text_of
from ouroloop.monitors.traces.clusters import TraceClusters
from ouroloop.monitors.traces.files import number_in, own_numbers
from ouroloop.monitors.traces.kept import KeptViews
from ouroloop.monitors.traces.reader import TraceReader, Traces
from ouroloop.monitors.traces.rows import TraceError

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]
"""(place, row), a place being "file:record"."""

# How lm-eval and Inspect begin or end a name: what other digits it has, a part of a second or of an
# id made at random, say nothing of the order.
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?")


@dataclass(frozen=True)
class Framework:
    """A framework's samples.

    Attributes:
        files: what it writes, for messages and for `--help`.
        rows: the rows of one record.
    """

    files: str
    rows: Callable[[Record, Scoring], Iterator[Row]]


def read_framework(
    framework: str,
    paths: Sequence[Path | str],
    scoring: Scoring | None = None,
    strategies: str | None = None,
    clusters: TraceClusters | None = None,
) -> Traces:
    """Read the samples that another framework wrote, the baseline first.

    Args:
        framework: a key of `FRAMEWORKS`.
        paths: its files, or folders of them.
        scoring: how its rewards become verdicts.
        strategies: see `TraceReader`.
        clusters: see `TraceReader`; None: its default.

    Raises:
        TraceError: as `read_traces`.
    """
    reader, views = TraceReader(strategies, clusters or TraceClusters()), KeptViews()
    names = []
    for source, rows in read_rounds(framework, paths, scoring or Scoring()):
        views.append(reader.read(rows))
        names.append(source)
    if not views:
        raise TraceError(f"--from {framework}: no samples in {', '.join(map(str, paths))}.")
    return replace(reader.traces(views, names), numbers=own_numbers(reader.rounds_))


def read_rounds(
    name: str, paths: Sequence[Path | str], scoring: Scoring
) -> Iterator[tuple[str, Rows]]:
    """(source, rows) of each round, in order.

    Args:
        name: a key of `FRAMEWORKS`.
        paths: files, or folders of them.
        scoring: how rewards become verdicts.

    Raises:
        TraceError: no such framework, file or field; a step that is no number, or that only some
            records have.
    """
    if name not in FRAMEWORKS:
        known = "; ".join(f"{key}: {framework.files}" for key, framework in FRAMEWORKS.items())
        raise TraceError(f"--from {name}: unknown; expected one of these ({known}).")
    by_round = RowsByRound[tuple[float, str]]()
    steps, filters = Steps(), set[str]()
    for index, path in enumerate(_files(paths)):
        for where, record in read_records(path):
            step = record.get("step", record.get("gen_step"))
            for row in _rows(name, record, scoring, where):
                if "filter" in row:
                    filters.add(str(row.pop("filter")))
                if len(filters) > 1:
                    raise TraceError(_several_filters(where, sorted(filters)))
                # A record with a list in each column may give its one step beside the lists.
                own = row.pop("round", None)
                number = steps.read(step if own is None else own, where)
                # An epoch of 0.5 numbers no round in a sentence.
                if number is not None and number >= 0 and number == int(number):
                    row["round"] = number
                # Without a step the file is the round, in the order in which it was given.
                key = (float(index), str(path)) if number is None else (number, f"step {number:g}")
                by_round.add(key, where, row)
    for key in sorted(by_round.keys(), key=lambda key: key[0]):
        yield key[1], by_round.rows(key)


def time_in(file: Path) -> str:
    """When a file was written, as its name says; empty where it does not."""
    found = TIME.search(file.name)
    return found.group() if found else ""


def _rows(name: str, record: Record, scoring: Scoring, where: str) -> Iterator[Row]:
    framework = FRAMEWORKS[name]
    try:
        yield from framework.rows(record, scoring)
    except TraceError as error:
        raise TraceError(f"{where}: {error}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise TraceError(
            f"{where}: no record of {name} ({type(error).__name__}: {error}), got columns"
            f" {listed(record)}; expected {framework.files}."
        ) from None


def _files(paths: Sequence[Path | str]) -> list[Path]:
    """Every file, those of a folder in the order of the times or numbers in their names."""
    out: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            out.append(path)
            continue
        found = [file for file in path.rglob("*") if file.name.endswith(SUFFIXES)]
        if not found:
            raise TraceError(f"{path}: no file ending in {', '.join(SUFFIXES)}.")
        # By number: as a text `step_10` comes before `step_9`.
        out += sorted(found, key=lambda file: (time_in(file), number_in(str(file)) or 0.0, file))
    return out


# --- one function for each framework ---


def _completions(record: Record, scoring: Scoring) -> Iterator[Row]:
    """TRL's and ms-swift's log: a record is one sample, or a list in each column."""
    if isinstance(record["completion"], list) and isinstance(record.get("prompt"), list):
        is_table = len(record["completion"]) == len(record["prompt"]) and not is_chat(
            record["completion"]
        )
        if is_table:
            num = len(record["completion"])
            lists = {k: v for k, v in record.items() if isinstance(v, list) and len(v) == num}
            for i in range(num):
                yield from _completions({k: v[i] for k, v in lists.items()}, scoring)
            return
        if not is_chat(record["completion"]) and not is_chat(record["prompt"]):
            raise TraceError(
                f"got {len(record['prompt'])} prompts and {len(record['completion'])} completions;"
                " expected columns of one length."
            )
    yield {
        **asked(record.get("prompt", record.get("messages"))),
        "text": text_of(record["completion"]),
        "correct": scoring.of(record),
        "round": record.get("step", record.get("gen_step")),
    }


def _generations(record: Record, scoring: Scoring) -> Iterator[Row]:
    """Verl's and OpenRLHF's dumps: input, output, and a score."""
    row = {
        **asked(record["input"]),
        "text": text_of(record["output"]),
        "correct": scoring.of(record, ("acc", "score", "reward")),
    }
    if isinstance(record.get("data_source"), str):
        row["family"] = record["data_source"]
    yield row


def _nemo(record: Record, scoring: Scoring) -> Iterator[Row]:
    """NeMo-RL's data of a step: the turns, of validation with their roles, and the reward."""
    content = record["content"]
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], list):
        content = content[0]
    question, text = exchange(content if isinstance(content, list) else [content])
    yield {
        **asked(question or record.get("idx")),
        "text": text,
        "correct": scoring.of(record, ("rewards", "reward")),
    }


def _lm_eval(record: Record, scoring: Scoring) -> Iterator[Row]:
    """lm-evaluation-harness's --log_samples: one document with all its responses.

    A metric may be called as in its results, "exact_match,strict-match": of that filter.
    """
    metric, _, wanted = (scoring.reward or "").partition(",")
    if wanted:
        if record.get("filter") != wanted:
            return
        scoring = replace(scoring, reward=metric)
    responses = record["resps"][0]
    texts = responses if isinstance(responses, list) else [responses]
    if any(isinstance(text, list) for text in texts):
        raise TraceError(
            "got log-likelihoods of given answers; expected responses that the model generated"
            " (output_type: generate_until)."
        )
    # The metric is that of the first response after the filter; of the others nothing is known.
    known = scoring.of(record, ("exact_match", "acc", "pass@1"))
    for text in texts:
        row: Row = {
            "problem": str(record["doc_id"]),
            "text": text_of(text),
            "correct": known if len(texts) == 1 else None,
        }
        question = record.get("doc", {}).get("question")
        if isinstance(question, str):
            row["question"] = question
        if "filter" in record:
            row["filter"] = record["filter"]
        yield row


def _several_filters(where: str, found: Sequence[str]) -> str:
    # A document stands in the file once for each filter, with the same responses.
    return (
        f"{where}: got the same responses under the filters {', '.join(found)}; expected those of"
        f" one, or every sample would count {len(found)} times. Name it: --reward"
        f" exact_match,{found[0]}."
    )


def _inspect(record: Record, scoring: Scoring) -> Iterator[Row]:
    """A sample of an Inspect log; its epochs are a problem's samples."""
    output = record["output"]
    text = output.get("completion")
    if text is None:
        text = output["choices"][0]["message"]["content"]
    scores = record.get("scores") or {}
    # Several scorers measure several things; which of them means right nobody can guess.
    if scoring.reward is None and len(scores) > 1:
        raise TraceError(
            f"several scorers: got {', '.join(scores)}; expected the one that says whether a sample"
            f" is right. Name it: --reward {next(iter(scores))}."
        )
    name = scoring.reward or next(iter(scores), None)
    score = scores.get(name) or {}
    row: Row = {
        "problem": str(record["id"]),
        "question": text_of(record["input"]),
        "text": text_of(text),
    }
    row["correct"] = scoring.verdict(score.get("value"))
    if isinstance(score.get("answer"), str):
        row["answer"] = score["answer"]
    yield row


FRAMEWORKS: Mapping[str, Framework] = {
    "trl": Framework("completions_*.parquet of log_completions", _completions),
    "ms-swift": Framework("completions.jsonl of log_completions", _completions),
    "verl": Framework("N.jsonl of rollout_data_dir or validation_data_dir", _generations),
    "openrlhf": Framework("JSONL with input, output and reward", _generations),
    "nemo-rl": Framework("val_data_stepN.jsonl or train_data_stepN.jsonl", _nemo),
    "lm-eval": Framework("samples_*.jsonl of --log_samples, one file a round", _lm_eval),
    "inspect": Framework("a log as .json or .eval, one file a round", _inspect),
}
