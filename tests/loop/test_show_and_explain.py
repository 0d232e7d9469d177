"""`ouroloop show` and `ouroloop explain` on scripted runs: they say what was decided."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from scripted_world import Model, carry, nothing_graded, recipe

from ouroloop.loop.__main__ import main
from ouroloop.loop.round import Round
from ouroloop.loop.views.explain import explain, outcome_of, room
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.decision.records import plain
from ouroloop.monitors.names import Action, Tier

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

# One baseline: its quantities are audited after a rollback, too.
ONE = {"baselines": [0]}
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    """A run whose model forgets most after round 1, and comes back in round 3."""
    skill = {0: 0.8, 1: 0.8, 2: 0.1}
    model = Model(lambda number: skill.get(number, 0.95))
    _, path = carry(tmp_path_factory.mktemp("runs"), model, recipe(rounds=5, monitors=ONE))
    return path


@pytest.fixture(scope="module")
def unscored(tmp_path_factory):
    """A run in which no text is right or wrong."""
    settings = recipe(
        rounds=2,
        refine={"revisions": 0},
        filters={"gold": False, "steps": False, "critic": True},
        monitors={"clusters": {"when": "always"}},
    )
    with nothing_graded():
        _, path = carry(tmp_path_factory.mktemp("runs"), Model(lambda number: 0.6), settings)
    return path


def shown(capsys, *arguments: str) -> str:
    """What a command prints."""
    assert main(arguments) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments: str) -> str:
    """The message of a command that ends with 2."""
    assert main(arguments) == 2
    return capsys.readouterr().err


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| \n").split("|")]


# -- explain ------------------------------------------------------------------------------------


def test_a_decision_is_explained_by_the_numbers_that_it_was_made_of(steered, capsys):
    run = read_run(steered)
    acted = next(round for round in run.rounds if round.action != Action.CONTINUE)
    text = shown(capsys, "explain", str(steered), "--round", str(acted.number))
    assert text.startswith(f"scripted, round {acted.number}: {acted.action}")
    for reason in acted.decided.reasons:
        assert f"  {reason}\n" in text
    lines = text.splitlines()
    for tier in Tier:
        found = acted.decided.evidence[tier]
        (row,) = [cells(line) for line in lines if cells(line)[0] == tier.upper()]
        assert row[1:4] == [
            plain(found.log_e),
            plain(found.log_limit),
            "yes" if found.reached else "no",
        ]
        assert row[4] == acted.decided.driver_name(tier)


def test_how_the_rounds_weights_were_proven_is_told_where_it_was_asked(steered, tmp_path):
    assert "Served weights" not in explain(steered, 2), "this engine is scripted"
    run = shutil.copytree(steered, tmp_path / "proven")
    with (run / "events.jsonl").open("a") as events:
        for number, proof in ((2, "first"), (3, "of another round"), (2, "2 prompts answered")):
            told = {"checkpoint": f"rounds/{number:03d}/checkpoint", "proof": proof}
            events.write(json.dumps({"time": 0.0, "event": "weights_proven", **told}) + "\n")
    assert "\n\nServed weights\n  2 prompts answered\n\n" in explain(run, 2)


def test_every_guarded_quantity_has_a_row_and_the_nearest_to_its_tolerance_stands_first(steered):
    round = read_run(steered).rounds[2]
    text = explain(steered, 2)
    start = text.index("Guarded quantities")
    lines = text[start:].split("\n\n")[0].splitlines()[1:]
    notes = [line for line in lines if line.startswith("  * ")]
    table = [cells(line) for line in lines if line not in notes]
    rows = [dict(zip(table[0], row, strict=True)) for row in table[2:]]
    assert len(rows) == len(round.decided.guards) > 5
    rooms = [float(row["room"]) for row in rows]
    assert rooms == sorted(rooms) and rooms[0] < 0
    by_stream = {(g.name, str(g.baseline)): g for g in round.decided.guards}
    for row in rows:
        name = row["quantity"].removeprefix("> ").removesuffix(" *")
        guard = by_stream[name, row["baseline round"]]
        # Where the change is not that of the two levels, the note beside it says why.
        assert row["quantity"].endswith(" *") == (f"  * {name}: {guard.note}" in notes)
        assert row["now"] == f"{guard.after:.3f}" and row["then"] == f"{guard.before:.3f}"
        assert float(row["room"]) == pytest.approx(room(guard), abs=0.06)
        evidence = round.decided.evidence[Tier.HALT].by_quantity
        assert row["e HALT"] == plain(evidence[guard.stream])
    assert any("the change counts from" in note for note in notes)
    drivers = {found.driver for found in round.decided.evidence.values()}
    assert sum(row["quantity"].startswith("> ") for row in rows) == len(drivers)


def test_what_was_done_and_whether_it_helped_is_what_later_rounds_say(steered):
    run = read_run(steered)
    acted = next(round for round in run.rounds if round.action != Action.CONTINUE)
    text = explain(steered, acted.number)
    following = run.round(acted.number + 1)
    assert following is not None
    for why in following.plan["why"]:
        assert f"  {why}\n" in text
    outcome = outcome_of(run, acted.number)
    assert outcome is not None and text.rstrip().endswith(outcome.sentence)
    audits = [a for r in run.rounds for a in r.decided.audits if a.round == acted.number]
    assert outcome.audit.recovered == any(audit.recovered for audit in audits)


def test_a_round_without_evidence_says_so_and_the_last_round_is_the_default(steered, capsys):
    text = shown(capsys, "explain", str(steered), "--round", "0")
    assert "nothing was weighed" in text and "round 0 is the baseline" in text
    last = read_run(steered).rounds[-1].number
    assert shown(capsys, "explain", str(steered)).startswith(f"scripted, round {last}:")


@pytest.mark.parametrize("command", ["explain", "show"])
def test_a_round_that_is_not_there_is_refused_with_those_that_are(steered, capsys, command):
    last = read_run(steered).rounds[-1].number
    message = refused(capsys, command, str(steered), "--round", "77")
    assert "no finished round 77" in message and f"expected one of 0 to {last}" in message
    assert "no such run" in refused(capsys, command, "nobody")


# -- show ---------------------------------------------------------------------------------------


def test_without_a_choice_the_round_is_counted_and_the_named_commands_work(steered, capsys):
    round = Round.of(steered, 1)
    text = shown(capsys, "show", str(steered), "--round", "1")
    kept = sum(verdict.kept for verdict in round.verdicts)
    assert f"{len(round.verdicts)} samples, {kept} kept" in text
    # Every sample is counted in the table of strategies, also one of which none is named.
    table = text.split("| strategy")[1].split("\n\n")[0].splitlines()[2:]
    assert sum(int(cells(line)[1].replace(",", "")) for line in table) == len(round.verdicts)
    commands = re.findall(r"  ouroloop (show .*)", text)
    assert len(commands) == 3
    for command in commands:
        words = [word.strip("'") for word in command.split()]
        # The folder: the run's name finds it only in the usual folder of runs.
        assert words[1] == str(steered) and shown(capsys, *words)


def test_a_problems_way_through_a_round_is_shown_whole(steered, capsys):
    round = Round.of(steered, 1)
    journal = {json.loads(line)["id"]: json.loads(line) for line in _journal(steered, 1)}
    revised = next(v for v in round.verdicts if v.revised)
    text = shown(
        capsys,
        "show",
        str(steered),
        "--round",
        "1",
        "--problem",
        revised.problem_id,
        "--limit",
        "9",
    )
    own = [v for v in round.verdicts if v.problem_id == revised.problem_id]
    learnt = {example.sample_id for example in round.examples}
    for verdict in own:
        part = text.split(f"--- {verdict.sample_id}: ")[1].split("\n--- ")[0]
        chain = journal[verdict.sample_id]
        texts = [chain["draft"]["text"], *(c["completion"]["text"] for c in chain["critiques"])]
        texts += [revision["text"] for revision in chain["revisions"]]
        for line in "\n".join(texts).splitlines():
            assert f"  | {line}" in part
        assert f"{len(chain['draft']['token_ids'])} tokens" in part
        assert (f"rejected ({', '.join(verdict.reasons)})" in part) == (not verdict.kept)
        assert f"learnt from: {'yes' if verdict.sample_id in learnt else 'no'}" in part


def test_a_held_out_problem_shows_the_answers_to_the_probe_set(steered, capsys):
    row = Round.of(steered, 1).probe[0]
    text = shown(capsys, "show", str(steered), "--round", "1", "--problem", row.problem)
    assert "No sample was drafted for it in this round." in text
    own = [r for r in Round.of(steered, 1).probe if r.problem == row.problem]
    assert f"{len(own)} answers of this round's model to the probe set" in text


def test_a_part_of_an_id_is_enough_where_it_names_one_problem(steered, capsys):
    problem = Round.of(steered, 1).verdicts[0].problem_id
    text = shown(capsys, "show", str(steered), "--round", "1", "--problem", problem[-8:])
    assert f"problem {problem}" in text
    assert "is part of" in refused(capsys, "show", str(steered), "--problem", "-")
    message = refused(capsys, "show", str(steered), "--problem", f"{problem[:-1]}_")
    assert "was drafted or probed" in message and "such as" in message


def test_samples_are_chosen_by_strategy_and_by_reason_and_by_both(steered, capsys):
    verdicts = Round.of(steered, 2).verdicts
    first = next(v for v in verdicts if v.strategy and v.reasons)
    strategy, reason = str(first.strategy), first.reasons[0]
    both = [v for v in verdicts if v.strategy == strategy and reason in v.reasons]
    arguments = ["show", str(steered), "--round", "2", "--limit", "99"]
    arguments += ["--strategy", strategy, "--rejected", reason]
    text = shown(capsys, *arguments)
    assert re.findall(r"^--- (\S+):", text, re.MULTILINE) == [v.sample_id for v in both]
    message = refused(capsys, "show", str(steered), "--round", "2", "--rejected", "taste")
    assert "no sample with the reason 'taste'" in message and reason in message


def test_what_nobody_scored_is_counted_by_response_clusters(unscored, capsys):
    rows = [row for row in Round.of(unscored, 0).probe if row.cluster]
    text = shown(capsys, "show", str(unscored), "--round", "0")
    table = text.split("| response cluster of the probe samples")[1].split("\n\n")[0]
    counts = [int(cells(line)[1].replace(",", "")) for line in table.splitlines()[2:]]
    assert sum(counts) == len(rows) > 0 and "| strategy" not in text
    name = cells(table.splitlines()[2])[0]
    assert shown(capsys, "show", str(unscored), "--round", "0", "--strategy", name)


def test_as_many_samples_of_a_strategy_are_shown_as_are_counted(unscored, capsys):
    verdicts = Round.of(unscored, 1).verdicts
    text = shown(capsys, "show", str(unscored), "--round", "1")
    table = text.split("| response cluster")[1].split("\n\n")[0]
    counts = [cells(line) for line in table.splitlines()[2:]]
    assert len(counts) > 3
    for name, count in counts:
        if name.startswith("("):
            continue
        rows = shown(capsys, "show", str(unscored), "--round", "1", "--strategy", name)
        assert f"\n{count} samples, " in rows
    # Counted by their clusters, they are not shown under their strategies' names.
    strategy = next(v.strategy for v in verdicts if v.strategy and v.cluster)
    message = refused(capsys, "show", str(unscored), "--round", "1", "--strategy", strategy)
    assert f"no sample with the strategy '{strategy}' here" in message


def test_unscored_text_is_neither_right_nor_wrong(unscored, capsys):
    row = Round.of(unscored, 1).verdicts[0]
    text = shown(capsys, "show", str(unscored), "--round", "1", "--problem", row.problem_id)
    assert set(re.findall(r"^  right: (.*)", text, re.MULTILINE)) == {"–"}
    text = shown(capsys, "explain", str(unscored), "--round", "1")
    # One line for all that one reason leaves unguarded.
    _, _, unguarded = text.partition("Not guarded in this round\n")
    assert unguarded.startswith("  pass@1, distinct-correct-pair probability, ")
    assert unguarded.count("no scored sample at the baseline") == 1
    assert "answers apart" in text


def test_a_models_text_gives_the_terminal_no_orders_and_passes_for_no_line_of_ours(
    finished_run, tmp_path, capsys
):
    import shutil

    path = Path(shutil.copytree(finished_run[1], tmp_path / "hostile"))
    lines = [json.loads(line) for line in _journal(path, 1)]
    hostile = f"{ESCAPE}ok\rverdict: kept\x85verdict: kept\nverdict: kept | yes"
    lines[0]["draft"]["text"] = hostile
    (path / "rounds/001/samples.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    file = path / "rounds/001/verdicts.parquet"
    table = pd.read_parquet(file)
    table["strategy"] = f"{ESCAPE}way\n| kept |"
    table.to_parquet(file)
    (path / "rounds/001/MANIFEST.json").unlink()
    (path / "rounds/001/LEDGER.json").unlink(missing_ok=True)
    Round.of(path, 1).commit()
    text = shown(capsys, "show", str(path), "--round", "1", "--problem", lines[0]["problem_id"])
    assert "\x1b" not in text and "\r" not in text and "\x07" not in text
    ours = [line for line in text.splitlines() if line.startswith("verdict: ")]
    assert len(ours) == text.count("\n--- ")
    assert text.count("  | verdict: kept") >= 3
    assert "way ¦ kept ¦" in text


def test_help_teaches_what_may_be_asked(capsys):
    for command, words in (("show", "--rejected steps"), ("explain", "did it help")):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0 and words in capsys.readouterr().out


def _journal(path: Path, number: int) -> list[str]:
    return (path / f"rounds/{number:03d}/samples.jsonl").read_text().splitlines()
