"""`ouroloop monitor` on other people's traces.

What it prints, what it returns, and what it refuses before printing anything.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ouroloop.loop.__main__ import main
from ouroloop.loop.views.monitor import rule_of
from ouroloop.loop.views.verdict import of_evidence
from ouroloop.monitors.names import FailureMode, mode_label

ROOT = Path(__file__).resolve().parents[2]
NUM_PROBLEMS = 80


def trace_file(path, seed, num_samples, accuracy=0.6, first_strategy=0.5, **more):
    """One round of a model that is right with probability `accuracy`.

    It takes the first of two ways with probability `first_strategy`.
    """
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for problem in range(NUM_PROBLEMS):
            for _ in range(num_samples):
                right = bool(rng.random() < accuracy)
                total = problem + 7 + (0 if right else int(rng.integers(1, 4)))
                way = (
                    f"{problem}+7={total}"
                    if rng.random() < first_strategy
                    else f"{problem}+10={problem + 10}. {problem + 10}-3={total}"
                )
                row = {
                    "problem": f"p{problem}",
                    "text": f"{way}. The answer is {total}.",
                    "correct": right,
                    **more,
                }
                file.write(json.dumps(row) + "\n")
    return str(path)


@pytest.fixture
def healthy(tmp_path):
    return [trace_file(tmp_path / f"r{i}.jsonl", i, 8 if i else 32) for i in range(3)]


@pytest.fixture
def collapsing(tmp_path):
    return [
        trace_file(tmp_path / f"r{i}.jsonl", i, 8 if i else 32, first_strategy=share)
        for i, share in enumerate((0.5, 0.7, 0.97))
    ]


def printed(capsys, *arguments):
    code = main(["monitor", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_a_healthy_loop_is_let_alone(capsys, healthy):
    code, out, _ = printed(capsys, *healthy)
    assert code == 0
    rows = [line.split("|")[1:3] for line in out.splitlines() if line.startswith("|")][2:]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [str(i), "continue"] for i in range(3)
    ]
    assert "No HALT evidence in 2 rounds" in out and "at most 5%, over 20 planned rounds" in out


def test_a_collapse_is_a_halt_with_numbers_and_exit_code_3(capsys, collapsing):
    code, out, _ = printed(capsys, *collapsing)
    assert code == 3
    sentence = next(line for line in out.splitlines() if line.startswith("round 2 ("))
    assert (
        f"rollback [{mode_label(FailureMode.SHARPENING)}] - HALT: evidence e = " in sentence
        and "beyond its tolerance: distinct-correct-pair probability 0." in sentence
    )
    assert (
        "tolerated -10 %" in sentence
        and "HALT evidence in round 2 of 2: go back to a round before, or stop" in out
    )


def test_several_rounds_with_halt_evidence_are_rounds_and_the_first_bounds_the_way_back():
    rule = rule_of([], 20)
    assert "HALT evidence in round 2 of 3: go back to a round before, or" in of_evidence(
        rule, [2], 4
    )
    several = of_evidence(rule, [2, 3], 4)
    assert "HALT evidence in rounds 2, 3 of 3: go back to a round before round 2, or" in several


def unscored(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def some_texts(number, problems=12, samples=6, **more):
    """Rows of answers that differ; `more`: name -> a value of every row."""
    return [
        {"problem": f"p{p}", "text": f"{i} {p} {number} things matter", **more}
        for p in range(problems)
        for i in range(samples)
    ]


def test_a_lost_quantity_is_a_halt_of_its_own_and_no_evidence_is_claimed(capsys, tmp_path):
    files = [unscored(tmp_path / f"r{i}.jsonl", some_texts(i, nll=1.0)) for i in range(2)]
    files.append(unscored(tmp_path / "r2.jsonl", some_texts(2)))
    code, out, _ = printed(capsys, *files, "--clusters", "none")
    assert code == 3
    assert "token entropy (share of its cap) was measured at the baseline and cannot be" in out
    assert "Halt without HALT evidence in round 2: a guarded quantity was lost, or" in out
    assert "No HALT evidence in 2 rounds (" in out and "\nHALT evidence in" not in out
    assert "is missing or bears another name, write it as in round 0." in out
    assert "The filter" not in out


def test_a_round_of_empty_answers_says_so_first_and_what_remains_is_weighed(capsys, tmp_path):
    files = [unscored(tmp_path / f"r{i}.jsonl", some_texts(i, 40)) for i in range(2)]
    files.append(unscored(tmp_path / "r2.jsonl", some_texts(2, 40, text="")))
    code, out, _ = printed(capsys, *files)
    sentence = next(line for line in out.splitlines() if line.startswith("round 2 ("))
    assert code == 3
    assert "- no sample of this round is answered: share of answered samples 1.000 -> 0" in sentence
    assert "HALT: evidence e = " in sentence and "guarded: nothing" not in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounds", "checkpoint", "decided"),
    [
        (
            [some_texts(i, problems=1) for i in range(3)],
            "not known: nothing is",
            "No verdict: noth",
        ),
        (
            [[{"problem": "a", "reply": "x"}, {"problem": "b", "reply": "y"}]] * 2,
            "not known: nothing is guarded",
            "No verdict: nothing is guarded",
        ),
        ([some_texts(0)], "none yet: only the baseline round", "Nothing was decided yet"),
    ],
)
def test_the_page_gives_no_all_clear_where_nothing_was_guarded(
    capsys, tmp_path, rounds, checkpoint, decided
):
    files = []
    for i, rows in enumerate(rounds):
        files.append(unscored(tmp_path / f"r{i}.jsonl", [{**row, "n": i} for row in rows]))
    page = tmp_path / "page.html"
    code, out, _ = printed(capsys, *files, "--html", str(page))
    assert code == 0
    text = page.read_text(encoding="utf-8")
    assert f"<b>Checkpoint to take:</b> {checkpoint}" in text and decided in text
    assert "the last round after which nothing was called" not in text
    assert "let every round continue" not in text and "none can have got worse" not in text + out


def test_unscored_traces_show_how_far_answers_lie_apart(capsys, tmp_path):
    files = [
        trace_file(tmp_path / f"r{i}.jsonl", i, 4, correct=None, cluster=f"c{i}") for i in range(2)
    ]
    out = printed(capsys, *files)[1]
    head = out.splitlines()[0]
    assert "| apart %" in head and "| WATCH e / limit |" in head and "| two ways" not in head


@pytest.mark.slow
def test_what_could_not_be_measured_is_said_with_its_reason(capsys, healthy):
    out = printed(capsys, *healthy)[1]
    assert "missing: logprobs or nll in all 3,840 lines (trace entropy is not measured)" in out
    line = next(line for line in out.splitlines() if line.startswith("not measured: entropy/token"))
    assert line.endswith(": no probe sample has log-probabilities")
    assert "| entropy" not in out and "| yield" not in out and "| DCP %" in out


@pytest.mark.slow
def test_json_is_for_scripts(capsys, collapsing):
    code, out, _ = printed(capsys, *collapsing, "--json", "--plan-rounds", "8")
    report = json.loads(out)
    assert code == report["exit_code"] == 3
    assert [r["action"] for r in report["rounds"]] == [
        "continue",
        "continue",
        "rollback",
    ] and report["rule"]["rounds"] == 8
    last = report["rounds"][-1]
    assert (
        last["source"].endswith("r2.jsonl")
        and last["evidence"]["halt"]["log_e"] > last["evidence"]["halt"]["log_limit"]
    )
    assert next(r for r in last["readings"] if r["id"] == "entropy/token")["value"] is None


@pytest.mark.slow
def test_tolerances_horizon_and_strategies_can_be_set(capsys, collapsing):
    shares = ("diversity_loss_share", "rare_loss_share", "alive_loss_share")
    tolerant = [part for share in shares for part in ("--set", f"{share}=1")]
    assert printed(capsys, *collapsing, *tolerant)[0] == 0
    assert printed(capsys, *collapsing, "--strategies", "none")[0] == 0
    assert "entropy: probe sampled at temperature 0.7" not in printed(capsys, *collapsing)[1]
    cooler = printed(capsys, *collapsing, "--temperature", "0.7")[1]
    assert "probe sampled at temperature 0.7" in cooler
    # The decisions go on with that number, and call it so.
    assert "(what a decision calls token entropy is that)" in cooler


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "acuracy_loss=0.02"), "Did you mean 'accuracy_loss'?"),
        (("--set", "accuracy_loss"), "expected name=value"),
        (("--set", "accuracy_loss=many"), "got 'many'; expected a number in [0, 1]"),
        (("--set", "accuracy_loss=-1"), "got '-1'; expected a number in [0, 1]"),
        (("--set", "alpha=0"), "alpha = 0.0: expected a number in (0, 1)"),
        (("--set", "alpha=2"), "alpha = 2.0: expected a number in (0, 1)"),
        (("--set", "alpha=few"), "got 'few'; expected a number in (0, 1)"),
        (("--set", "main_family=algebra"), "no such family in"),
        (("--strategies", "operator"), "got 'operator'; expected one of"),
        (("nowhere.jsonl",), "nowhere.jsonl: no such file"),
    ],
)
def test_wrong_input_is_one_clear_error_exit_code_2_and_nothing_printed(
    capsys, healthy, arguments, says
):
    code, out, err = printed(capsys, *healthy, *arguments)
    assert code == 2 and out == "" and says in err
    assert err.startswith("ouroloop: ") and "Traceback" not in err


def test_a_bad_line_in_the_last_file_stops_everything(capsys, healthy):
    with open(healthy[-1], "a") as file:
        file.write('{"problem": "p1", "correct": "yes"}\n')
    code, out, err = printed(capsys, *healthy)
    assert (
        code == 2
        and out == ""
        and f"{healthy[-1]}:{NUM_PROBLEMS * 8 + 1}: correct is 'yes'; expected true, false or null."
        in err
    )


def test_a_round_in_which_the_filter_kept_nothing_is_a_halt(capsys, tmp_path):
    files = [trace_file(tmp_path / f"r{i}.jsonl", i, 4, kept=i == 0) for i in range(2)]
    code, out, _ = printed(capsys, *files)
    assert code == 3 and "nothing passes: 0 of 320 samples kept" in out
    assert "The filter let nothing through in round 1: loosen it, or draw more samples" in out
    assert "Where a column is missing" not in out


@pytest.mark.slow
def test_it_starts_without_any_heavy_library(healthy):
    code = (
        "import sys; from ouroloop.loop.__main__ import main; code = main(['monitor',"
        f" *{healthy[:2]!r}]); print('loaded', sorted({{'torch', 'transformers', 'trl', 'mlflow',"
        " 'pandas', 'vllm'} & set(sys.modules)), code)"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert child.stdout.splitlines()[-1] == "loaded [] 0"


@pytest.mark.slow
def test_a_second_baseline_sees_the_loss_of_what_the_first_round_gained(capsys, tmp_path):
    gained = [(0.4, 0.5, 32), (0.95, 0.5, 32), (0.95, 0.9, 8), (0.95, 0.9, 8), (0.95, 0.9, 8)]
    files = [
        trace_file(tmp_path / f"r{i}.jsonl", i, n, accuracy=a, first_strategy=s)
        for i, (a, s, n) in enumerate(gained)
    ]
    alone, two = (
        json.loads(printed(capsys, *files, "--json", *more)[1])
        for more in ((), ("--baselines", "0", "1"))
    )
    # Beside round 0 one of two strategies has fallen; what round 1 gained is known to `two` alone.
    assert {row["action"] for row in alone["rounds"]} <= {"continue", "reinject"}
    assert not any("since round 1" in r for row in alone["rounds"] for r in row["reasons"])
    assert two["rounds"][-1]["action"] in ("reinject", "rollback")
    assert any("since round 1" in reason for reason in two["rounds"][-1]["reasons"])
    code, _, error = printed(capsys, *files, "--baselines", "1", "0")
    assert code == 2 and "beginning with 0" in error


@pytest.mark.parametrize(("given", "says"), [("-1", "of at least 0"), ("nan", "a finite number")])
def test_an_impossible_temperature_is_refused(capsys, given, says):
    with pytest.raises(SystemExit):
        main(["monitor", "r0.jsonl", "--temperature", given])
    assert says in capsys.readouterr().err


def test_a_baseline_that_is_no_round_yet_is_said_to_be_none(capsys, tmp_path):
    files = [unscored(tmp_path / f"r{i}.jsonl", some_texts(i)) for i in range(2)]
    out = printed(capsys, *files, "--baselines", "0", "5")[1]
    assert "--baselines: round 5 is not there yet; the last one is 1" in out


@pytest.mark.slow
def test_readings_are_of_as_many_samples_in_the_baseline_as_in_other_rounds(capsys, tmp_path):
    files = [trace_file(tmp_path / f"r{i}.jsonl", i, n) for i, n in enumerate((64, 4))]
    few = [trace_file(tmp_path / f"few{i}.jsonl", i, 4) for i in range(2)]

    def overconfidence(paths):
        rounds = json.loads(printed(capsys, *paths, "--json")[1])["rounds"]
        return next(r for r in rounds[0]["readings"] if r["id"] == "calibration/overconfidence@4")[
            "value"
        ]

    assert abs(overconfidence(files) - overconfidence(few)) < 0.1


def table_of(path, numbers):
    """One table of the rounds of a model that falls in the last one."""
    lines = []
    for index, number in enumerate(numbers):
        accuracy = 0.1 if number == numbers[-1] else 0.6
        trace_file(path, index, 8, accuracy=accuracy, round=number)
        lines.append(path.read_text())
    path.write_text("".join(lines))
    return str(path)


def test_a_tables_own_numbers_of_its_rounds_stand_wherever_a_round_is_named(capsys, tmp_path):
    table = table_of(tmp_path / "all.jsonl", (5, 7, 11))
    page = tmp_path / "page.html"
    code, out, _ = printed(capsys, table, "--html", str(page))
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][2:]
    assert code == 3 and rows == ["5", "7", "11"]
    assert "all.jsonl, round 5): continue - round 5 is the baseline: nothing" in out
    assert "from round 11 on" in out and "\nround 5 measures 8 samples" in out
    assert "HALT evidence in round 11 (1 of 2 rounds): go back to a round before, or" in out
    assert "\nRound 11: guarded: pass@1" in out and "round 0" not in out
    assert "rollback after round 11" in page.read_text(encoding="utf-8")
    rounds = json.loads(printed(capsys, table, "--json", "--baselines", "0", "7")[1])["rounds"]
    assert [found["round"] for found in rounds] == [5, 7, 11]
    assert rounds[2]["evidence"]["halt"]["since"] == 11
    assert {guard["baseline"] for guard in rounds[2]["guards"]} == {5, 7}
    assert {key.partition("@")[2] for key in rounds[2]["factors"]["watch"]} == {"5", "7"}
    out = printed(capsys, table, "--baselines", "0", "9")[1]
    assert "--baselines: round 9 is not there yet; the last one is 11" in out


def test_the_steps_of_a_framework_are_the_numbers_of_its_rounds(capsys, tmp_path):
    lines = [
        {"input": f"q{p}", "output": f"{p}+{i}={p + i + step}", "score": float(i % 2), "step": step}
        for step in (20, 40)
        for p in range(4)
        for i in range(4)
    ]
    path = unscored(tmp_path / "dump.jsonl", lines)
    out = printed(capsys, "--from", "verl", path)[1]
    assert "round 40 (step 40): " in out and "\nRound 40: guarded: " in out
