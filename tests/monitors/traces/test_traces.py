"""Traces of other loops: what is read, what is said to be missing, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop import monitors
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.follower import Follower, follow
from ouroloop.monitors.names import Tier
from ouroloop.monitors.registry import measure_all
from ouroloop.monitors.traces.reader import TraceError, TraceReader, main_family, read_traces
from ouroloop.monitors.traces.rows import FIELDS

ROOT = Path(__file__).resolve().parents[3]
ROW = {"problem": "p1", "text": "2+3=5. The answer is 5.", "correct": True}


def write(path, rows):
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    )
    return path


def rows_of(probe, *names):
    """Simulated samples as trace rows with these fields."""
    column = {name: getattr(probe, name).tolist() for name in names}
    return [{name: column[name][i] for name in names} for i in range(len(probe))]


def a_round(seed, num_samples=8, fields=("problem", "text", "correct", "strategy"), **model):
    return rows_of(samples(np.random.default_rng(seed), num_samples=num_samples, **model), *fields)


def read(tmp_path, *rounds, **settings):
    return read_traces(
        [write(tmp_path / f"r{i}.jsonl", rows) for i, rows in enumerate(rounds)],
        **settings,
    )


def by_name(readings):
    return {r.name: r for r in readings}


FULL = {
    **ROW,
    "strategy": "sum",
    "answer": 5,
    "question": "2+3",
    "family": "f",
    "slice": "tail",
    "valid": None,
    "logprobs": [-0.5, -1.5],
    "num_tokens": 2,
    "truncated": False,
    "kept": True,
    "round": 0,
}


def test_every_field_comes_to_its_place(tmp_path):
    view = read(
        tmp_path,
        [FULL, {**ROW, "problem": 7, "nll": 0.25, "num_tokens": 4, "kept": False, "round": 0}],
    ).views[0]
    probe = view.probe
    assert (
        probe.problem.tolist() == ["p1", "7"]
        and probe.family.tolist() == ["f", "default"]
        and probe.slice.tolist() == ["tail", "typical"]
    )
    assert probe.answer.tolist() == ["5", None] and probe.strategy.tolist() == ["sum", None]
    assert probe.nll.tolist() == [1.0, 0.25] and probe.num_tokens.tolist() == [2, 4]
    assert probe.truncated[0] == 0 and np.isnan(probe.valid[0]) and np.isnan(probe.truncated[1])
    assert view.pool.kept.tolist() == [True, False] and view.pool.text is not None


def test_what_is_missing_is_said_once_per_field_with_how_many_lines_lack_it(tmp_path):
    rows = [ROW] * 3 + [{**ROW, "valid": True, "response": "x"}]
    notes = read(tmp_path, rows, [{**ROW, "valid": False}] * 2).notes
    assert "missing: valid in 3 of 6 lines (right answers by wrong steps are not measured)" in notes
    assert "missing: logprobs or nll in all 6 lines (trace entropy is not measured)" in notes
    assert "missing: strategy in all 6 lines (named by 'operators' from the texts)" in notes
    assert "missing: answer in all 6 lines (the final answers are read from the texts)" in notes
    assert "not read: response" in notes
    assert len({note.split(" ")[1] for note in notes if note.startswith("missing")}) == sum(
        n.startswith("missing") for n in notes
    )


def test_what_depends_on_a_missing_field_is_undefined_with_a_reason(tmp_path):
    first, second = read(
        tmp_path,
        a_round(0, 32, fields=("problem",)),
        a_round(1, fields=("problem",)),
    ).views
    for reading in measure_all(second, first):
        assert reading.status != "error" and (
            np.isfinite(reading.value) or len(reading.reason) > 10
        ), reading
    found = by_name(measure_all(second, first))
    for name in (
        "accuracy/pass@1:default",
        "diversity/dcp",
        "calibration/overconfidence@8",
        "entropy/token",
        "supply/yield:all:all:pool",
        "validity/wrong_step",
        "validity/truncated",
        "length/tokens",
    ):
        assert found[name].status == "undefined", name


def test_traces_give_the_same_readings_as_the_samples_they_were_written_from(tmp_path):
    probe = samples(np.random.default_rng(0))
    fields = [f for f in FIELDS if f in probe.__dataclass_fields__]
    view = read(tmp_path, rows_of(probe, *fields)).views[0]
    for name in probe.__dataclass_fields__:
        # What is not known is NaN on both sides.
        np.testing.assert_array_equal(getattr(view.probe, name), getattr(probe, name), name)


def test_without_a_strategy_field_the_texts_name_it(tmp_path):
    texts = ["2*3=6. 6+4=10.", "3+3=6. 6+4=10.", "ten"]
    rows = [{**ROW, "text": t} for t in texts]
    assert read(tmp_path, rows).views[0].probe.strategy.tolist() == ["*|+", "+|+", None]
    assert read(tmp_path, rows, strategies="calculations").views[0].probe.strategy.tolist() == [
        "2*3=6;6+4=10",
        "3+3=6;6+4=10",
        None,
    ]
    assert read(tmp_path, rows, strategies="none").views[0].probe.strategy.tolist() == [None] * 3
    assert (
        read(tmp_path, [{**r, "strategy": "x"} for r in rows]).views[0].probe.strategy.tolist()
        == ["x"] * 3
    )
    with pytest.raises(TraceError, match=r"got 'operator'; expected one of .*operators"):
        TraceReader("operator")


def test_texts_without_any_calculation_are_each_their_own_strategy_with_a_warning(tmp_path):
    traces = read(
        tmp_path,
        [{**ROW, "text": t} for t in ("by sums", "by  sums", "by parts")],
        [{**ROW, "text": "by parts"}],
    )
    first, second, third = traces.views[0].probe.strategy
    assert first == second != third == traces.views[1].probe.strategy[0]
    assert traces.notes[0].startswith(
        "WARNING: 'operators' names none of round 0's 3 texts, so every text its own strategy"
    )
    few = read(tmp_path, [{**ROW, "text": t} for t in ("2+3=5", "by sums", "by parts")])
    assert few.notes[0].startswith("WARNING: 'operators' names only 1 of round 0's 3 texts")


def test_the_baseline_decides_for_all_files(tmp_path):
    traces = read(tmp_path, [ROW], [{**ROW, "strategy": "mine", "answer": "6"}])
    assert traces.views[1].probe.strategy[0] == "+" and traces.views[1].probe.answer[0] == "5"


def test_a_gold_answer_in_place_of_the_samples_answer_is_suspected(tmp_path):
    rows = [
        {**ROW, "problem": p, "correct": c, "answer": "5"}
        for p in ("a", "b")
        for c in (True, False)
    ]
    assert any("is it the right answer?" in note for note in read(tmp_path, rows).notes)
    rows[1]["answer"] = "6"
    assert not any("is it the right answer?" in note for note in read(tmp_path, rows).notes)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "r0.jsonl:2: not JSON"),
        ("[1]", "r0.jsonl:2: got [1]; expected one JSON object per line"),
        ('{"text": "x"}', "r0.jsonl:2: no field 'problem', got ['text']"),
        ('{"problem_id": "x"}', "Is it what you call 'problem_id'? Rename that."),
        (
            '{"problem": null}',
            "r0.jsonl:2: problem is empty (null); expected the prompt's id, a text or",
        ),
        ('{"problem": 1.5}', "problem is 1.5; expected the prompt's id"),
        (
            '{"problem": "p", "correct": 0.7}',
            "correct is 0.7; expected true, false or null. Turn a score into a verdict first",
        ),
        ('{"problem": "p", "family": "all"}', "family is 'all'; expected a text other than"),
        ('{"problem": "p", "slice": "others"}', "slice is 'others'; expected a text other than"),
        ('{"problem": "p", "family": "others"}', "Rename it: that name stands for several"),
        ('{"problem": "p", "correct": "true"}', "Write it without quotation marks."),
        ('{"problem": "p", "text": 5}', "text is 5; expected the sampled completion"),
        (
            '{"problem": "p", "logprobs": [0.5]}',
            "logprobs is [0.5]; expected a list with one log-probability, at most 0",
        ),
        ('{"problem": "p", "logprobs": [-Infinity]}', "logprobs is [-inf]"),
        (
            '{"problem": "p", "logprobs": [-1], "num_tokens": 3}',
            "num_tokens is 3, but there are 1 logprobs",
        ),
        ('{"problem": "p", "nll": -1}', "nll is -1; expected the mean negative log-probability"),
        ('{"problem": "p", "nll": NaN}', "nll is nan"),
        ('{"problem": "p", "num_tokens": 2.5}', "num_tokens is 2.5; expected a whole number"),
        (
            '{"problem": "p", "answer": ["5"]}',
            "answer is ['5']; expected the sample's own final answer",
        ),
        ('{"problem": "p", "answer": 1e999}', "answer is inf"),
        (
            '{"problem": "p", "round": 3}',
            "got a row of round 3 after rows of no round; expected one file per round",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_one_error_with_place_expectation_and_remedy(tmp_path, line, says):
    with pytest.raises(TraceError) as caught:
        read(tmp_path, [ROW, line])
    assert says in str(caught.value) and "r0.jsonl:2: " in str(caught.value)
    assert len(str(caught.value)) < 500


def test_bad_files_are_refused(tmp_path):
    for path, says in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "cannot be read"),
        (write(tmp_path / "e.jsonl", [""]), r"e\.jsonl has no rows"),
    ):
        with pytest.raises(TraceError, match=says):
            read_traces([path])
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "\xe9"}\n')
    with pytest.raises(TraceError, match=r"latin\.jsonl:1: not UTF-8"):
        read_traces([tmp_path / "latin.jsonl"])


def test_the_same_file_twice_is_refused_also_under_another_name(tmp_path):
    with pytest.raises(TraceError, match=r"r1\.jsonl: byte for byte the same as .*r0\.jsonl"):
        read(tmp_path, [ROW], [ROW])


@pytest.mark.parametrize("text", ["I can't help with that.", ""])
def test_rounds_in_which_every_answer_is_the_same_refusal_are_judged_with_a_warning(tmp_path, text):
    answers = [{"problem": p, "text": f"{p}, {i}"} for p in "ab" for i in range(4)]
    collapsed = [{"problem": p, "text": text} for p in "ab" for _ in range(4)]
    traces = read(tmp_path, answers, collapsed, collapsed)
    assert len(traces.views) == 3
    (warning,) = (note for note in traces.notes if "byte for byte" in note)
    assert "r2.jsonl is byte for byte the same as " in warning and "after a total col" in warning


def test_a_copied_round_is_refused_where_no_collapse_explains_it_and_the_remedy_is_said(tmp_path):
    answers = [{"problem": p, "text": f"{p}, {i}"} for p in "ab" for i in range(4)]
    single = [{"problem": p, "text": "No."} for p in "ab"]
    for rows in (answers, single, [{"problem": "a", "correct": True}] * 4):
        with pytest.raises(TraceError, match="one file with a column `round`"):
            read(tmp_path, rows, rows)


def test_one_file_named_twice_is_refused_also_by_a_name_without_a_folder(tmp_path, monkeypatch):
    write(tmp_path / "r0.jsonl", [ROW])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TraceError, match=r"^r0\.jsonl: byte for byte the same as r0\.jsonl"):
        read_traces([Path("r0.jsonl"), Path("r0.jsonl")])


def test_rounds_in_the_wrong_order_are_refused_unless_asked_otherwise(tmp_path):
    paths = [
        write(tmp_path / f"round{i}.jsonl", [{**ROW, "problem": f"p{i}"}]) for i in (0, 1, 10, 2)
    ]
    with pytest.raises(
        TraceError,
        match=r"round2\.jsonl: got 2 after 10 .*in the file names.*A shell sorts 10 before 2",
    ):
        read_traces(paths)
    assert len(read_traces(paths, keep_order=True).views) == 4
    with pytest.raises(TraceError, match=r"got 3 after 4 .*`round` fields"):
        read(tmp_path, [{**ROW, "round": 4}], [{**ROW, "round": 3}])


@pytest.mark.slow
def test_only_shared_problems_are_compared_and_said_so():
    reader = TraceReader()
    rounds = [a_round(0, 32, num_problems=60), a_round(1, num_problems=90)[: 8 * 70]]
    views = [reader.read((f"x:{i}", row) for i, row in enumerate(rows)) for rows in rounds]
    judged = follow(views, DecisionRule(main_family(views[0])))[1]
    assert judged.notes == (
        (
            "round 1: compared over the 60 problems that round 0 has too; left out: 10 of this"
            " round's, 0 of round 0's"
        ),
    )
    assert by_name(judged.readings)["accuracy/pass@1:default"].num_clusters == 60
    view = reader.read([("x:1", {**ROW, "problem": "other"})])
    with pytest.raises(
        TraceError,
        match=r"none of round 0's 60 problems, e\.g\. 'other' against 'main-0000'",
    ):
        follow([views[0], view], DecisionRule("default"))


@pytest.mark.slow
def test_evidence_adds_up_over_rounds_because_nothing_is_carried_out():
    reader = TraceReader()
    follower = Follower(DecisionRule("default"))
    for seed in range(6):
        accuracy = 0.47 if seed else 0.55
        judged = follower.judge(
            reader.read(
                ("x", row)
                for row in a_round(seed, 8 if seed else 32, num_problems=120, accuracy=accuracy)
            )
        )
    log_e = [d.evidence[Tier.HALT].log_e for d in follower.history[1:]]
    assert (
        judged.is_halt
        and log_e == sorted(log_e)
        and all(d.carried_out is False for d in follower.history)
    )


def test_a_few_samples_at_the_baseline_are_said(tmp_path):
    assert any(
        "four times as many" in n for n in read(tmp_path, [ROW], [{**ROW, "correct": False}]).notes
    )
    (note,) = [n for n in read(tmp_path, [ROW], [ROW | {"text": "6"}]).notes if "four times" in n]
    assert note.startswith("round 0 measures 1 sample per problem")
    rounds = [[{**ROW, "text": f"round {n}: 5"}] * num for n, num in enumerate((4, 4, 1, 1))]
    assert not any("four times as many" in n for n in read(tmp_path, *rounds).notes), (
        "round 1 is a baseline too"
    )


def test_the_names_of_the_package_are_there_without_importing_all_of_it():
    assert all(getattr(monitors, name) is not None for name in monitors.__all__)
    with pytest.raises(AttributeError, match=r"it has .*DecisionRule"):
        monitors.probes  # noqa: B018


def example(number):
    """The rows of the documentation's example of one round."""
    return re.findall(r"```json\n(.*?)```", (ROOT / "docs/traces.md").read_text(), re.S)[number]


def test_the_documented_example_is_read_as_documented(tmp_path):
    paths = [tmp_path / f"round{i}.jsonl" for i in (0, 1)]
    for number, path in enumerate(paths):
        path.write_text(example(number))
    traces = read_traces(paths)
    first, second = traces.views
    assert (
        (len(first.probe), len(second.probe)) == (8, 4)
        and first.pool is None
        and second.pool.kept.tolist() == [True, True, True, False]
    )
    assert first.probe.strategy.tolist()[:4] == ["*|+", "+|+", "*|+", "+|+"]
    assert first.probe.answer.tolist() == ["10", "10", "10", "9", "7", "7", "7", "8"]
    judged = follow(traces.views, DecisionRule(main_family="default"))
    assert by_name(judged[0].readings)["accuracy/pass@1:default"].value == 0.75
    assert by_name(judged[1].readings)["supply/yield:all:all:pool"].value == 0.75
    assert not any(r.status == "error" for j in judged for r in j.readings)


def test_the_documentation_names_every_field_and_no_other():
    table = (ROOT / "docs/traces.md").read_text().split("## The fields")[1].split("\n\n")[2]
    assert set(
        re.findall(r"`(\w+)`", " ".join(line.split("|")[1] for line in table.splitlines()[2:]))
    ) == set(FIELDS)


def test_an_empty_family_or_slice_is_none(tmp_path):
    rows = [{**ROW, "problem": str(i), "family": "", "slice": ""} for i in range(2)]
    probe = read(tmp_path, rows).views[0].probe
    assert set(probe.family) == {"default"} and set(probe.slice) == {"typical"}


def test_a_problem_in_another_family_or_slice_is_refused_and_a_missing_one_is_round_0s(tmp_path):
    first = [{**ROW, "problem": p, "family": "x", "slice": "tail"} for p in ("p0", "p1")]
    left_out = [{**ROW, "problem": p} for p in ("p0", "p1", "p2")]
    traces = read(tmp_path, first, left_out)
    second = traces.views[1].probe
    assert second.family.tolist() == ["x", "x", "default"]
    assert second.slice.tolist() == ["tail", "tail", "typical"]
    assert any(note.startswith("missing: family in 1 of 5 lines") for note in traces.notes)
    for changed, said in (
        ({"family": "y"}, "r1.jsonl:2 (round 1): family of problem 'p1' is 'y'; expected 'x', as"),
        ({"slice": "easy"}, "slice of problem 'p1' is 'easy'; expected 'tail', as in round 0."),
    ):
        with pytest.raises(TraceError, match=re.escape(said)):
            read(tmp_path, first, [first[0], {**first[1], "n": 1, **changed}])
    with pytest.raises(TraceError, match=r"is 'x'; expected none, as in round 0\. Correct"):
        read(tmp_path, left_out, first)
    # Files may name several families of one problem; a later round then names one of them.
    both = [first[0], {**first[0], "family": "y"}, first[1]]
    assert read(tmp_path, both, first).views[1].probe.family.tolist() == ["x", "x"]
    with pytest.raises(TraceError, match=r"'p0' is 'z'; expected 'x' or 'y', as in round 0"):
        read(tmp_path, both, [{**first[0], "family": "z"}])
