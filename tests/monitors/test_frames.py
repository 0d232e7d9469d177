"""Tables and arrays of a notebook: what is read, what is refused, and the example notebook."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from simulated_panel import samples

from ouroloop.monitors import DecisionRule, TraceError, from_arrays, from_frame, read_traces
from ouroloop.monitors.follower import Follower, trace_monitors
from ouroloop.monitors.names import Action
from ouroloop.monitors.traces.frames import columns_of

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("problem", "family", "slice", "correct", "strategy", "answer")
COLLAPSED = (0.97, 0.01, 0.01, 0.01)


def a_frame(seed, num_samples=8, fields=FIELDS, **model):
    probe = samples(np.random.default_rng(seed), num_samples=num_samples, **model)
    return pd.DataFrame({name: getattr(probe, name) for name in fields})


def grids(seed, num_samples=8, **model):
    """The same as arrays of problems x samples."""
    frame = a_frame(seed, num_samples, **model)
    shape = (frame.problem.nunique(), num_samples)
    return {
        name: frame[name].to_numpy().reshape(shape) for name in ("correct", "strategy", "answer")
    }


def values(judged):
    """What a round's readings say, by id; undefined is None."""
    return {r.name: (r.status, r.to_json()["value"]) for r in judged.readings}


def as_polars(frame):
    return pytest.importorskip("polars").DataFrame(frame.to_dict("list"))


@pytest.mark.parametrize(
    "table",
    [
        lambda frame: frame,
        lambda frame: frame.convert_dtypes(),
        lambda frame: pa.Table.from_pandas(frame),
        lambda frame: frame.to_dict("list"),
        lambda frame: {name: frame[name].to_numpy() for name in frame},
        as_polars,
    ],
    ids=["pandas", "pandas with NA", "pyarrow", "lists", "arrays", "polars"],
)
def test_every_kind_of_table_gives_what_the_same_rows_in_files_give(table, tmp_path):
    frames = [a_frame(0, 32), a_frame(1), a_frame(2, shares=COLLAPSED)]
    monitor = from_frame(table(frames[0]))
    for frame in frames[1:]:
        monitor.judge(table(frame))
    files = [tmp_path / f"r{i}.jsonl" for i in range(3)]
    for file, frame in zip(files, frames, strict=True):
        frame.to_json(file, orient="records", lines=True)
    rule = DecisionRule("main")
    follower = Follower(rule, trace_monitors(rule))
    for judged, view in zip(monitor.rounds, read_traces(files).views, strict=True):
        expected = follower.judge(view)
        assert values(judged) == values(expected)
        assert judged.decision == expected.decision
    assert [judged.decision.action for judged in monitor.rounds][:2] == [Action.CONTINUE] * 2
    assert monitor.rounds[2].is_halt


def test_a_frame_of_all_rounds_is_split_by_its_column_and_judged_in_order():
    parts = [a_frame(0, 32), a_frame(1), a_frame(2, shares=COLLAPSED)]
    whole = pd.concat([part.assign(round=i) for i, part in enumerate(parts)])
    # The rounds decide, not the order of the rows.
    mixed = from_frame(whole.sample(frac=1.0, random_state=3))
    one_by_one = from_frame(parts[0])
    for part in parts[1:]:
        one_by_one.judge(part)
    assert [row["action"] for row in mixed.decisions()] == ["continue", "continue", "rollback"]
    assert [values(a) for a in mixed.rounds] == [values(b) for b in one_by_one.rounds]


def test_arrays_of_numpy_truth_values_and_integers_give_what_a_frame_gives():
    frame_monitor = from_frame(a_frame(0, 32).drop(columns=["family", "slice"]))
    first, second = grids(0, 32), grids(1, shares=COLLAPSED)
    ids = a_frame(0).problem.unique()
    names = np.unique(first["strategy"].astype(str))
    codes = [np.searchsorted(names, g.pop("strategy").astype(str)) for g in (first, second)]
    monitor = from_arrays(
        first["correct"].astype(np.bool_), codes[0], answer=first["answer"], problem=ids
    )
    judged = monitor.judge_arrays(
        second["correct"].astype(np.int8),
        codes[1].astype(np.uint8),
        answer=second["answer"],
        problem=ids,
    )
    expected = frame_monitor.judge(a_frame(1, shares=COLLAPSED).drop(columns=["family", "slice"]))
    assert values(judged) == values(expected)
    assert judged.decision.action == expected.decision.action == Action.ROLLBACK


def test_a_missing_verdict_is_unscored_and_never_wrong_whatever_it_is_called():
    frame = a_frame(0, 32)
    holes = frame.assign(correct=frame.correct.where(frame.index % 4 > 0))
    ids = [f"{r.name}" for r in from_frame(holes).rounds[0].readings]
    assert "accuracy/pass@1:main" in ids
    nans = values(from_frame(holes).rounds[0])
    for missing in (
        holes.convert_dtypes(),
        holes.astype(object).where(holes.notna(), None),
        holes.assign(correct=holes.correct.astype("boolean")),
    ):
        assert values(from_frame(missing).rounds[0]) == nans
    share_right = holes.correct.mean()
    assert nans["accuracy/pass@1:main"][1] == pytest.approx(share_right, abs=0.01)


def test_family_and_slice_of_a_problem_may_be_left_to_the_baseline():
    monitor, again = from_frame(a_frame(0, 32)), from_frame(a_frame(0, 32))
    left_out = monitor.judge(a_frame(1).drop(columns=["family", "slice"]))
    assert values(left_out) == values(again.judge(a_frame(1)))


def test_log_probabilities_may_be_a_column_of_arrays():
    frame = a_frame(0, 8).assign(logprobs=[np.array([-0.5, -1.5])] * 480)
    found = values(from_frame(frame).rounds[0])
    assert found["entropy/token"] == ("ok", pytest.approx(1.0))
    nested = np.full((60, 8, 2), [-0.5, -1.5])
    of_arrays = from_arrays(grids(0)["correct"], logprobs=nested)
    assert values(of_arrays.rounds[0])["entropy/token"] == ("ok", pytest.approx(1.0))


GOOD = {"problem": [1, 1, 2, 2], "correct": [True, False, True, None]}
WRONG_FRAMES = {
    "no table": ([{"problem": 1}], "got a list; expected a pandas or polars DataFrame"),
    "a series": (pd.Series([1.0]), "got a Series; expected"),
    "no rows": (pd.DataFrame(columns=["problem", "correct"]), "got no rows"),
    "unequal columns": ({"problem": [1], "correct": [1, 0]}, "'correct': 2"),
    "a name twice": (pd.DataFrame([[1, 1]], columns=["correct"] * 2), "'correct' twice"),
    "no problem": ({"correct": [1]}, "no column 'problem'"),
    "another name": ({"problem": [1], "reward": [1]}, "Is it what you call 'reward'"),
    "a typo": ({**GOOD, "strategi": list("abab")}, "Is it what you call 'strategi'"),
    "nothing of the samples": ({"problem": [1], "kept": [True]}, "show nothing of the samples"),
    "a score": ({"problem": [1, 1], "correct": [1, 0.5]}, "frame row 1: correct is 0.5"),
    "a family of two": ({**GOOD, "family": ["a", "b", "a", "a"]}, "frame row 1: family of"),
    "a reserved family": ({**GOOD, "family": ["all"] * 4}, "family is 'all'"),
    "a round of some rows": ({**GOOD, "round": [0, 0, None, 1]}, "frame row 2: no round"),
    "a round of another name": ({**GOOD, "Round": [0, 0, 1, 1]}, "Is it what you call 'Round'"),
    "steps for rounds": ({**GOOD, "step": [5, 5, 9, 9]}, "Is it what you call 'step'"),
    "an id of NaN": ({"problem": [None, "p"], "correct": [1, 0]}, "frame row 0: problem is empty"),
    "float ids": ({"problem": [0.0, 1.0], "correct": [1, 0]}, "without a decimal point"),
    "rounds of two kinds": ({**GOOD, "round": [0, 0, "1", "1"]}, "kinds int, str"),
    "NaN in a list": ({"problem": [1], "logprobs": [[float("nan")]]}, "logprobs is [nan]"),
}


@pytest.mark.parametrize("name", list(WRONG_FRAMES))
def test_a_wrong_frame_is_refused_with_where_got_expected_and_the_remedy(name):
    frame, said = WRONG_FRAMES[name]
    with pytest.raises(TraceError) as raised:
        from_frame(frame)
    message = str(raised.value)
    assert said in message and "\n" not in message
    assert "expected" in message or "Is it what you call" in message


def test_a_wrong_family_is_refused_with_the_nearest_one():
    with pytest.raises(TraceError, match=r"got 'mian'; expected a family .* such as main"):
        from_frame(a_frame(0), main_family="mian")
    with pytest.raises(TraceError, match="got 'x'"):
        from_frame(a_frame(0), DecisionRule("x"))


WRONG_ROUNDS = {
    "no column of the baseline's": (
        lambda: a_frame(1).drop(columns="strategy"),
        "round 1: no column 'strategy', which round 0 has",
    ),
    "another family": (
        lambda: a_frame(1).assign(family="other"),
        "family of problem 'main-0000' is 'other'; expected 'main'",
    ),
    "other problems": (lambda: a_frame(1, family="x").drop(columns="family"), "has none of"),
    "the same rows": (lambda: a_frame(0, 32), "the same rows as round 0"),
    "two rounds": (
        lambda: pd.concat([a_frame(1).assign(round=1), a_frame(2).assign(round=2)]),
        "a frame of 2 rounds; expected one round",
    ),
    "a wrong row": (lambda: a_frame(1).assign(correct=0.5), "correct is 0.5"),
}


@pytest.mark.parametrize("name", list(WRONG_ROUNDS))
def test_a_wrong_round_is_refused_and_the_monitor_goes_on_as_if_it_had_not_been(name):
    make, said = WRONG_ROUNDS[name]
    monitor, untouched = from_frame(a_frame(0, 32)), from_frame(a_frame(0, 32))
    with pytest.raises(TraceError, match=re.escape(said)):
        monitor.judge(make())
    assert monitor.notes == untouched.notes
    assert values(monitor.judge(a_frame(3))) == values(untouched.judge(a_frame(3)))
    assert len(monitor.rounds) == 2 and monitor.rounds[1].decision.round == 1


def test_a_round_of_one_refusal_is_judged_again_with_a_warning_where_the_next_is_the_same():
    texts = [f"{i} things matter" for i in range(8)]
    baseline = {"problem": list("aaaabbbb"), "text": texts}
    collapsed = {"problem": list("aaaabbbb"), "text": ["I can't help with that."] * 8}
    monitor = from_frame(baseline)
    monitor.judge(collapsed)
    assert not any("the same rows" in note for note in monitor.notes)
    monitor.judge(collapsed)
    assert any("WARNING: round 2 has the same rows as round 1" in x for x in monitor.notes)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"correct": [1, 0, 1]}, "shape (3,); expected two axes"),
        ({"correct": np.zeros((8, 0))}, "shape (8, 0), which holds no sample; expected problems x"),
        ({"correct": [[1, 0], [1]]}, "correct: got rows of different lengths"),
        ({"correct": [[1, 0]], "strategy": [["a"]]}, "shape (1, 1); expected (1, 2)"),
        ({"correct": [[1, 0]], "colour": [["a", "b"]]}, "got 'colour'; expected fields"),
        ({"correct": [[1, 0]], "problem": ["a", "b"]}, "problem: got an array of shape (2,)"),
        ({"correct": [[1], [0]], "problem": ["a", "a"]}, "problem: got an id twice"),
        ({"correct": [[1, 0]], "samples": -3}, "samples: got -3; expected at least 1"),
        ({"correct": [[1, 0]], "rule": "x"}, "rule: got 'x'; expected a DecisionRule"),
    ],
)
def test_arrays_of_another_shape_are_refused(arrays, said):
    with pytest.raises(TraceError, match=re.escape(said)):
        from_arrays(**arrays)


def test_rounds_are_judged_in_their_order_and_their_own_numbers_are_noted():
    def of_round(number):
        return a_frame(number, num_problems=6).assign(round=number)

    monitor = from_frame(pd.concat([of_round(5), of_round(15)]))
    assert [row["round"] for row in monitor.decisions()] == [0, 1]
    assert "rounds 5, 15 are counted as 0 to 1, in this order" in monitor.notes
    with pytest.raises(
        TraceError,
        match=r"round 2: got 10 after 15 \(round 1\) in the `round` column; expected the rounds in",
    ):
        monitor.judge(of_round(10))
    monitor.judge(of_round(25))
    # As texts 10 would come before 2; a step that is the same in all rows is no other round.
    texts = pd.concat([of_round(number).assign(round=str(number)) for number in (2, 10)])
    assert [r.decision.round for r in from_frame(texts).rounds] == [0, 1]
    from_frame(a_frame(0, num_problems=6).assign(step=7))


def test_unnamed_problems_must_be_as_many_in_every_round():
    monitor = from_arrays(grids(0)["correct"])
    with pytest.raises(TraceError, match="got 59 problems; expected the baseline's 60"):
        monitor.judge_arrays(grids(1)["correct"][:59])


def test_the_tables_of_readings_and_decisions_are_frames_again():
    monitor = from_frame(a_frame(0, 32))
    monitor.judge(a_frame(1, shares=COLLAPSED))
    decisions = pd.DataFrame(monitor.decisions())
    assert decisions.action.tolist() == ["continue", "rollback"]
    assert decisions.halt_log_e[1] >= decisions.halt_limit[1] > 0
    readings = pd.DataFrame(monitor.readings()).set_index(["round", "id"]).value
    assert readings[1, "diversity/dcp"] < readings[0, "diversity/dcp"] / 2
    assert str(monitor).splitlines()[1].startswith("round 1: rollback - HALT: evidence")


def test_statistics_of_k_samples_take_no_more_than_every_round_has():
    frame = pd.concat([a_frame(0, 32).assign(round=0), a_frame(1, 4).assign(round=1)])
    found = values(from_frame(frame).rounds[1])
    assert found["calibration/overconfidence@4:main"][0] == "ok"


def test_no_table_package_is_imported():
    code = (
        "import sys; from ouroloop.monitors import from_frame;"
        " from_frame({'problem': [1, 1], 'correct': [1, 0]});"
        " print({'pandas', 'polars', 'pyarrow'} & set(sys.modules))"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert child.stdout.strip() == "set()", child.stderr


def test_missing_values_of_every_kind_become_none():
    columns = {"a": [None, np.nan, pd.NA, pd.NaT, np.float32("nan"), np.int64(3), np.bool_(True)]}
    assert columns_of(columns) == {"a": [None, None, None, None, None, 3, True]}


def test_the_example_notebook_runs_and_prints_what_it_shows():
    spec = importlib.util.spec_from_file_location("nb", ROOT / "tools" / "run_notebook.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    path = ROOT / "docs" / "notebooks" / "monitors.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    codes = tool.code_cells(notebook)
    # tools/run_notebook.py writes what changed.
    assert tool.run(notebook) == [tool.shown(cell) for cell in codes]
    assert len(codes) >= 5 and path.stat().st_size < 20_000
    # From a table to a decision in ten lines, whichever cell one begins with.
    using = [cell["source"] for cell in codes if "ouroloop" in "".join(cell["source"])]
    assert len(using) >= 3 and max(map(len, using)) <= 10
