"""What happened to single problems and samples in a round: `ouroloop show RUN --round 7`.

A problem's way through the round, the samples of one strategy, or those that one reason rejected.
Model text is untrusted: every line of it stands behind a bar, so that none can pass for ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from ouroloop.loop.errors import UserError
from ouroloop.loop.views.cells import (
    behind_a_bar,
    named_by,
    one_line,
    records_of,
    strategy_of,
    verdict_of,
    yes_no,
)
from ouroloop.loop.views.chains import Turn, turns
from ouroloop.loop.views.endings import called
from ouroloop.loop.views.explain import round_of
from ouroloop.loop.views.measures import rejections
from ouroloop.loop.views.progress import markdown
from ouroloop.loop.views.reader import Json, RoundData, RunData, read_run
from ouroloop.loop.views.statistics import DASH

MAX_NAMES, MAX_ROWS = 12, 20


@dataclass(frozen=True)
class Wanted:
    """Which samples of a round are shown; None: whichever.

    Attributes:
        problem: a problem's id, or a part of it that only one problem has.
        strategy: the name of a strategy, or, of samples that nobody scored, of a response cluster.
        rejected: a rejection filter's name.
    """

    problem: str | None = None
    strategy: str | None = None
    rejected: str | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing was chosen."""
        return all(getattr(self, field.name) is None for field in fields(self))


def show(path: Path, number: int | None, wanted: Wanted, limit: int = 5) -> str:
    """The chosen samples of a round as text; what there is to choose from, if nothing is chosen.

    Args:
        path: the run's folder.
        number: of the round; None: the last finished one.
        wanted: the choice.
        limit: samples shown whole.

    Raises:
        RunStateError: there is no such round.
        UserError: the round has no such problem, strategy or reason.
    """
    run = read_run(path)
    round = round_of(run, number)
    if wanted.is_everything:
        return _overview(run, round)
    verdicts, answers = records_of(round.verdicts), records_of(round.probe)
    parts = [f"{run.name}, round {round.number}"]
    if wanted.problem is not None:
        problem = _problem(round, wanted.problem, verdicts, answers)
        verdicts = [row for row in verdicts if row["problem_id"] == problem]
        answers = [row for row in answers if row["problem"] == problem]
        parts[0] += f", problem {one_line(problem)}"
    if wanted.strategy is not None:
        # By the one name that the counts and the tables show of a sample.
        names = [strategy_of(row) for row in (*verdicts, *answers)]
        _refuse_unknown("strategy", wanted.strategy, list(filter(None, names)), round)
        verdicts = [row for row in verdicts if strategy_of(row) == wanted.strategy]
        answers = [row for row in answers if strategy_of(row) == wanted.strategy]
        parts[0] += f", strategy {one_line(wanted.strategy)}"
    if wanted.rejected is not None:
        reasons = [reason for row in verdicts for reason in row["reasons"]]
        _refuse_unknown("reason", wanted.rejected, reasons, round)
        verdicts = [row for row in verdicts if wanted.rejected in row["reasons"]]
        answers = []
        parts[0] += f", rejected by {one_line(wanted.rejected)}"
    parts += _samples(round, verdicts, limit)
    parts += _probe(round, answers)
    return "\n\n".join(parts)


# -- what there is ------------------------------------------------------------------------------


def _overview(run: RunData, round: RoundData) -> str:
    """Counts by reason and by strategy, and the commands that lead on."""
    verdicts = records_of(round.verdicts)
    command = f"ouroloop show {called(run)} --round {round.number}"
    kept = sum(bool(row["kept"]) for row in verdicts)
    parts = [f"{run.name}, round {round.number}: {len(verdicts):,} samples, {kept:,} kept"]
    against = rejections(round)
    if against:
        rows = [{"rejected by": name, "samples": f"{num:,}"} for name, num in against.items()]
        parts.append(markdown(rows))
    tables, most_common = _names(verdicts or records_of(round.probe), not verdicts)
    parts += tables
    lines = ["Look closer with"]
    ids = _problems(verdicts, records_of(round.probe))
    if ids:
        lines.append(f"  {command} --problem {one_line(ids[0])}")
    if most_common:
        lines.append(f"  {command} --strategy '{one_line(most_common)}'")
    if against:
        lines.append(f"  {command} --rejected {next(iter(against))}")
    return "\n\n".join([*parts, "\n".join(lines)])


def _names(rows: Sequence[Json], of_probe: bool) -> tuple[list[str], str]:
    """Tables of the scored samples' strategies and of the others' clusters; the commonest name."""
    tables: list[str] = []
    found: Counter[str] = Counter()
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(named_by(row), []).append(strategy_of(row))
    for what, names in groups.items():
        known = Counter(name for name in names if name)
        found += known
        if known:
            head = f"{what} of the probe samples" if of_probe else what
            tables.append(_counted(head, known, len(names)))
    return tables, next((name for name, _ in found.most_common(1)), "")


def _counted(head: str, names: Counter[str], num: int) -> str:
    """A line for each of the commonest names; their numbers add up to all samples, `num`."""
    shown = names.most_common(MAX_NAMES)
    counts = {one_line(name): count for name, count in shown}
    if len(names) > len(shown):
        rest = names.total() - sum(count for _, count in shown)
        counts[f"({len(names) - len(shown)} more)"] = rest
    if num > names.total():
        counts["(none named)"] = num - names.total()
    return markdown([{head: name, "samples": f"{count:,}"} for name, count in counts.items()])


def _problem(
    round: RoundData, wanted: str, verdicts: Sequence[Json], answers: Sequence[Json]
) -> str:
    """The id of the problem that is meant.

    Raises:
        UserError: no problem, or more than one, has this in its id.
    """
    ids = _problems(verdicts, answers)
    # An id that is a part of another one is still itself.
    if wanted in ids:
        return wanted
    part_of = [id for id in ids if wanted in id]
    if len(part_of) == 1:
        return part_of[0]
    if part_of:
        raise UserError(
            f"{round.path}: {wanted!r} is part of {len(part_of)} problems' ids:"
            f" {_some(part_of)}. Give more of one."
        )
    near = get_close_matches(wanted, ids, n=3, cutoff=0.5) or ids[:3]
    raise UserError(
        f"{round.path}: no problem {wanted!r} was drafted or probed in this round; there are"
        f" {len(ids):,}, such as {_some(near)}. Another round may have drawn it."
    )


def _problems(verdicts: Sequence[Json], answers: Sequence[Json]) -> list[str]:
    """Ids of all problems, drafted ones first."""
    drafted = (str(row["problem_id"]) for row in verdicts)
    return list(dict.fromkeys([*drafted, *(str(row["problem"]) for row in answers)]))


def _refuse_unknown(what: str, wanted: str, found: Sequence[str], round: RoundData) -> None:
    counts = Counter(found)
    if wanted in counts:
        return
    names = [name for name, _ in counts.most_common()]
    raise UserError(
        f"{round.path}: no sample with the {what} {wanted!r} here; expected one of"
        f" {_some(names) or '(there are none)'}."
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        shown += f" and {len(names) - MAX_NAMES} more"
    return shown


# -- samples of the round -----------------------------------------------------------------------


def _samples(round: RoundData, verdicts: Sequence[Json], limit: int) -> Iterator[str]:
    if round.number == 0:
        yield "Round 0 measures the starting model: it drafts nothing."
        return
    if not verdicts:
        yield "No sample was drafted for it in this round."
        return
    kept = sum(bool(row["kept"]) for row in verdicts)
    yield f"{len(verdicts):,} samples, {kept:,} kept{_first(verdicts)}\n{_samples_table(verdicts)}"
    # Whole samples are long, and the journal is large: only the chains that are shown are kept.
    shown = verdicts[:limit]
    chains = _chains(round, {str(row["sample_id"]) for row in shown})
    learnt = _learnt(round)
    for row in shown:
        yield _sample(row, chains.get(str(row["sample_id"])), learnt)
    if len(verdicts) > limit:
        yield f"{len(verdicts) - limit:,} more; --limit {len(verdicts)} shows them whole."


def _samples_table(verdicts: Sequence[Json]) -> str:
    rows = []
    for row in verdicts[:MAX_ROWS]:
        rows.append(
            {
                "sample": one_line(row["sample_id"]),
                "verdict": verdict_of(row),
                "right": yes_no(row.get("correct")),
                "steps": yes_no(row.get("valid")),
                "answer": one_line(row.get("answer") or DASH),
                "gold": one_line(row.get("gold") or DASH),
                "strategy": one_line(strategy_of(row) or DASH),
            }
        )
    return markdown(rows)


def _sample(verdict: Json, chain: Json | None, learnt: set[str]) -> str:
    """One sample: the question, every turn, the verdict and why, whether it was learnt from."""
    lines = [f"--- {one_line(verdict['sample_id'])}: {verdict_of(verdict)}"]
    lines += behind_a_bar("question", str(verdict.get("question") or ""))
    if chain is None:
        # The journal was lost; the verdict holds the final text.
        lines += behind_a_bar("final", str(verdict["text"]))
    else:
        for turn in turns(chain):
            lines += behind_a_bar(f"{turn.kind} ({_about(turn)})", turn.text)
    facts = [f"right: {yes_no(verdict.get('correct'))}"]
    facts.append(f"steps right: {yes_no(verdict.get('valid'))}")
    for name in ("answer", "gold", "strategy", "cluster"):
        facts.append(f"{name}: {one_line(verdict.get(name) or DASH)}")
    facts.append(f"learnt from: {yes_no(verdict['sample_id'] in learnt)}")
    return "\n".join([*lines, f"verdict: {verdict_of(verdict)}", *(f"  {fact}" for fact in facts)])


def _about(turn: Turn) -> str:
    facts = [f"{turn.num_tokens} tokens"]
    if turn.mean_logprob is not None:
        facts.append(f"{turn.mean_logprob:.3f} nats per token")
    if turn.is_cut:
        facts.append("cut by length")
    if turn.kind == "critique":
        facts.append({True: "approves", False: "rejects", None: "no verdict"}[turn.approved])
    if turn.probability is not None:
        facts.append(f"P(approve) {turn.probability:.2f}")
    return ", ".join(facts)


def _chains(round: RoundData, ids: set[str]) -> dict[str, Json]:
    return {str(chain["id"]): chain for chain in round.samples() if chain["id"] in ids}


def _learnt(round: RoundData) -> set[str]:
    """Ids of the samples that the round trained on."""
    if len(round.pairs):
        return {str(id) for id in (*round.pairs["chosen_id"], *round.pairs["rejected_id"])}
    if not len(round.examples) or "sample_id" not in round.examples:
        return set()
    return {str(id) for id in round.examples["sample_id"].dropna()}


# -- the probe set's answers --------------------------------------------------------------------


def _probe(round: RoundData, answers: Sequence[Json]) -> Iterator[str]:
    """The answers of the round's own model to held-out problems."""
    if not answers:
        return
    rows = []
    for row in answers[:MAX_ROWS]:
        rows.append(
            {
                "problem": one_line(row["problem"]),
                "kind": str(row["kind"]),
                "right": yes_no(row.get("correct")),
                "steps": yes_no(row.get("valid")),
                "answer": one_line(row.get("answer") or DASH),
                "strategy": one_line(strategy_of(row) or DASH),
                "text": one_line(row["text"]),
            }
        )
    text = f"{len(answers):,} answers of this round's model to the probe set{_first(answers)}"
    yield f"{text}\n{markdown(rows)}"
    yield from _judgements(round, {str(row["problem"]) for row in answers})


def _judgements(round: RoundData, problems: set[str]) -> Iterator[str]:
    """What the frozen judge made of these problems' answers."""
    table = round.judgements
    if not len(table) or len(problems) > 1:
        return
    rows = []
    for row in records_of(table[table["problem"].isin(problems) & table["truth"].isna()]):
        rows.append(
            {
                "answer": str(row["index"]),
                "criterion": one_line(row["criterion"]),
                "approved": _approval(row),
                "principle": one_line(row["principle"] or DASH),
            }
        )
    if rows:
        yield f"The frozen judge's verdicts\n{markdown(rows)}"


def _approval(row: Json) -> str:
    """A verdict; a scorer, which names no principle, gives a score."""
    is_score = row["principle"] is None and row["approved"] is not None
    return f"{row['approved']:.2f}" if is_score else yes_no(row["approved"])


# -- cells and texts ----------------------------------------------------------------------------


def _first(rows: Sequence[Json]) -> str:
    return f" (the first {MAX_ROWS})" if len(rows) > MAX_ROWS else ""
