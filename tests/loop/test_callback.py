"""CollapseMonitor: on a made-up trainer, and in a real SFTTrainer on a tiny model.

All slow: transformers comes along.
"""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from trace_matrix import CASES, NUM_SAMPLES, VERDICTS, rows

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import DataError, RecipeError

pytestmark = pytest.mark.slow

NUM_PROBLEMS = 60


def callback():
    """The module, imported when a test runs: collecting tests must not take transformers along."""
    import ouroloop.loop.callback.monitor

    return ouroloop.loop.callback.monitor


def model_at(step, accuracy=0.6):
    """Rows of a model that is right with `accuracy`, by two ways."""
    rng = np.random.default_rng(step)
    found = []
    for problem in range(NUM_PROBLEMS):
        for _ in range(8 if step else 32):
            right = rng.random() < accuracy
            total = problem + 7 + (0 if right else int(rng.integers(1, 4)))
            text = (
                f"{problem}+7={total}"
                if rng.random() < 0.5
                else f"{problem}+10={problem + 10}. {problem + 10}-3={total}"
            )
            found.append(
                {
                    "problem": f"p{problem}",
                    "text": text,
                    "correct": np.bool_(right),
                    "nll": np.float64(0.4),
                    "num_tokens": 9,
                }
            )
    return found


def healthy(model, tokenizer, step):
    return model_at(step)


def collapsing(model, tokenizer, step):
    return model_at(step, 0.1 if step >= 20 else 0.6)


class Training:
    """A trainer's loop as the callback sees it: ten steps an epoch."""

    def __init__(self, folder, monitor, step=0):
        self.args, self.monitor = SimpleNamespace(output_dir=str(folder)), monitor
        self.state = SimpleNamespace(
            global_step=step, epoch=step / 10, is_world_process_zero=True, log_history=[]
        )
        self.control = SimpleNamespace(should_training_stop=False)
        self.call("on_train_begin")

    def call(self, event, **more):
        getattr(self.monitor, event)(
            self.args, self.state, self.control, model=None, processing_class=None, **more
        )

    def run(self, steps, end=True):
        for _ in range(steps):
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 10
            self.call("on_step_end")
            if self.state.global_step % 10 == 0:
                self.call("on_epoch_end")
            if self.control.should_training_stop:
                break
        if end:
            self.call("on_train_end")
        return self

    def decisions(self):
        with open(f"{self.args.output_dir}/collapse_monitor/decisions.jsonl") as lines:
            return [json.loads(line) for line in lines]


def test_a_healthy_training_is_measured_logged_and_let_run(tmp_path):
    training = Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5)).run(12)
    assert not training.control.should_training_stop
    assert [d["step"] for d in training.decisions()] == [0, 5, 10, 12] and {
        d["action"] for d in training.decisions()
    } == {"continue"}
    logged = training.state.log_history
    assert [entry["step"] for entry in logged] == [0, 5, 10, 12]
    assert logged[1]["collapse/accuracy/pass@1:default"] == pytest.approx(0.6, abs=0.1)
    assert logged[1]["collapse/action"] == callback().ACTIONS["continue"]
    assert all(
        isinstance(value, float | int) and np.isfinite(value)
        for entry in logged
        for value in entry.values()
    )
    assert logged[1]["collapse/halt_log_e"] < 0


def test_each_epoch_is_the_default_and_a_collapse_stops_the_training(tmp_path):
    training = Training(tmp_path, callback().CollapseMonitor(collapsing)).run(50)
    assert training.control.should_training_stop and training.state.global_step == 20
    last = training.decisions()[-1]
    assert (
        last["action"] == "rollback"
        and "pass@1" in last["reasons"][0]
        and last["carried_out"] is False
    )


def test_warn_only_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "ouroloop.loop.callback.monitor"):
        training = Training(tmp_path, callback().CollapseMonitor(collapsing, on_halt="warn")).run(
            30
        )
    assert not training.control.should_training_stop and training.state.global_step == 30
    assert "round 2 (step 20): rollback" in caplog.text and "HALT: evidence" in caplog.text


def test_what_it_leaves_behind_is_what_ouroloop_monitor_reads(tmp_path, capsys):
    training = Training(tmp_path, callback().CollapseMonitor(collapsing, on_halt="warn")).run(20)
    files = sorted(str(f) for f in (tmp_path / "collapse_monitor").glob("step-*.jsonl"))
    assert len(files) == 3 and main(["monitor", *files, "--json"]) == 3
    printed = json.loads(capsys.readouterr().out)["rounds"]
    assert [r["action"] for r in printed] == [d["action"] for d in training.decisions()]
    assert printed[-1]["reasons"] == training.decisions()[-1]["reasons"]


def test_resuming_goes_on_from_its_own_files_as_if_never_interrupted(tmp_path):
    whole = Training(tmp_path / "whole", callback().CollapseMonitor(healthy, every_steps=5)).run(30)
    Training(tmp_path / "cut", callback().CollapseMonitor(healthy, every_steps=5)).run(
        24, end=False
    )
    sampled = []

    def recorded(model, tokenizer, step):
        sampled.append(step)
        return model_at(step)

    resumed = Training(
        tmp_path / "cut", callback().CollapseMonitor(recorded, every_steps=5), step=12
    ).run(18)
    assert sampled == [15, 20, 25, 30]
    assert resumed.decisions() == whole.decisions()
    names = {f.name for f in (tmp_path / "cut" / "collapse_monitor").iterdir()}
    assert names == {"decisions.jsonl", *(f"step-{s:08d}.jsonl" for s in range(0, 31, 5))}


def test_a_new_training_in_the_same_folder_begins_anew(tmp_path):
    Training(tmp_path, callback().CollapseMonitor(collapsing, on_halt="warn")).run(30)
    again = Training(tmp_path, callback().CollapseMonitor(healthy)).run(10)
    assert [d["step"] for d in again.decisions()] == [0, 10]


def test_evaluations_can_be_what_is_measured_and_get_the_readings(tmp_path):
    training = Training(tmp_path, callback().CollapseMonitor(healthy, on_evaluation=True))
    training.state.global_step, metrics = 7, {"eval_loss": 1.0}
    training.call("on_evaluate", metrics=metrics)
    assert metrics["collapse/diversity/dcp"] > 0 and [d["step"] for d in training.decisions()] == [
        0,
        7,
    ]


def test_the_trainers_random_numbers_are_left_as_they_were(tmp_path):
    import torch

    def careless(model, tokenizer, step):
        torch.manual_seed(1)
        np.random.seed(1)
        torch.rand(3)
        return model_at(step)

    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(4), np.random.rand(4)
    torch.manual_seed(5)
    np.random.seed(5)
    Training(tmp_path, callback().CollapseMonitor(careless))
    assert torch.equal(torch.rand(4), expected[0]) and (np.random.rand(4) == expected[1]).all()


def test_the_planned_measurements_the_strategies_and_silence_are_ones_own_choice(tmp_path, capsys):
    def dcp(folder, **settings):
        monitor = callback().CollapseMonitor(healthy, every_steps=5, **settings)
        training = Training(tmp_path / folder, monitor).run(5)
        return monitor, training.state.log_history[-1]["collapse/diversity/dcp"]

    monitor, by_calculations = dcp("spoken")
    assert monitor.rule.rounds == callback().HORIZON and by_calculations > 0.1
    said = capsys.readouterr()
    assert "step 5: sampling" in said.out + said.err
    monitor, by_answers = dcp("quiet", plan_rounds=3, strategies="answer", quiet=True)
    assert monitor.rule.rounds == 3 and by_answers == 0.0, "right answers are one strategy"
    assert capsys.readouterr() == ("", "")


def test_wrong_settings_and_rows_are_refused_with_their_remedy(tmp_path):
    with pytest.raises(DataError, match="on_halt is 'halt'"):
        callback().CollapseMonitor(healthy, on_halt="halt")
    with pytest.raises(RecipeError, match="Did you mean 'accuracy_loss'"):
        callback().CollapseMonitor(healthy, tolerances={"acuracy_loss": 0.1})
    with pytest.raises(DataError, match="on_error is 'stop'"):
        callback().CollapseMonitor(healthy, on_error="stop")
    with pytest.raises(
        DataError,
        match=r"sample\(\) at step 0, row 2: correct is 0\.5; expected true, false or null",
    ):
        Training(
            tmp_path,
            callback().CollapseMonitor(
                lambda m, t, s: [{"problem": 1}, {"problem": 1, "correct": 0.5}], on_error="raise"
            ),
        )
    assert not (tmp_path / "collapse_monitor").exists()


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("num", NUM_SAMPLES)
def test_no_missing_field_ends_a_training(tmp_path, num, verdict):
    """The matrix of test_undefined_is_undefined.py.

    `on_error="raise"`, so that nothing is hidden by the fence.
    """
    for removed in (r for r, n, v in CASES if (n, v) == (num, verdict)):
        monitor = callback().CollapseMonitor(
            lambda m, t, s, r=removed: rows(r, num, verdict, s), every_steps=1, on_error="raise"
        )
        training = Training(tmp_path / f"{removed}", monitor).run(1)
        assert [d["action"] for d in training.decisions()] == [
            "continue"
        ] * 2 and not training.control.should_training_stop
        assert not [
            r for d in training.decisions() for r in d["readings"] if r["status"] == "error"
        ], removed


class Breaks:
    """`sample` that fails at some steps: by raising, or by a row that is wrong."""

    def __init__(self, at, how):
        self.at, self.how = at, how

    def __call__(self, model, tokenizer, step):
        if step not in self.at:
            return model_at(step)
        if self.how == "raises":
            raise RuntimeError("out of memory")
        bad = {
            "wrong row": [{"problem": "p1", "correct": "yes"}],
            "no rows": [],
            "other problems": [{"problem": "elsewhere", "text": "?"}],
        }
        return bad[self.how]


@pytest.mark.parametrize("how", ["raises", "wrong row", "no rows", "other problems"])
def test_a_measurement_that_fails_is_logged_and_marked_and_training_goes_on(tmp_path, caplog, how):
    with caplog.at_level(logging.WARNING, "ouroloop.loop.callback.monitor"):
        training = Training(
            tmp_path / "broken", callback().CollapseMonitor(Breaks({10}, how), every_steps=5)
        ).run(20)
    assert training.state.global_step == 20 and not training.control.should_training_stop
    assert "collapse monitor: step 10 is not measured" in caplog.text and "Traceback" in caplog.text
    decided = training.decisions()
    assert (
        [d["step"] for d in decided] == [0, 5, 10, 15, 20]
        and "not_measured" in decided[2]
        and "action" not in decided[2]
    )
    assert training.state.log_history[2] == {"collapse/not_measured": 1.0, "epoch": 1.0, "step": 10}

    whole = (
        Training(tmp_path / "whole", callback().CollapseMonitor(healthy, every_steps=5))
        .run(20)
        .decisions()
    )
    numbered = [d for d in decided if "action" in d]
    assert [d["round"] for d in numbered] == [0, 1, 2, 3]
    assert (
        numbered[1]["evidence"] == whole[1]["evidence"]
        and numbered[-1]["guards"] == whole[-1]["guards"]
    )

    raising = callback().CollapseMonitor(Breaks({10}, how), every_steps=5, on_error="raise")
    with pytest.raises(RuntimeError if how == "raises" else DataError):
        Training(tmp_path / "raising", raising).run(20)


def test_a_baseline_that_fails_leaves_its_place_to_the_next_measurement_also_after_a_resume(
    tmp_path,
):
    first = Training(
        tmp_path, callback().CollapseMonitor(Breaks({0}, "raises"), every_steps=5)
    ).run(10, end=False)
    assert [("not_measured" in d, d["step"]) for d in first.decisions()] == [
        (True, 0),
        (False, 5),
        (False, 10),
    ]
    assert "round 0 is the baseline" in first.decisions()[1]["reasons"][0]
    resumed = Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5), step=10).run(5)
    assert [d.get("round") for d in resumed.decisions()] == [None, 0, 1, 2]


def test_our_own_errors_end_no_training_either(tmp_path, caplog, monkeypatch):
    """A monitor that raises is an error reading and decides nothing.

    The decision, the files and the trainer's log may fail.
    """
    from ouroloop.loop.callback import record
    from ouroloop.monitors.metrics.diversity import Diversity

    def boom(*_, **__):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(Diversity, "measure", boom)
    training = Training(
        tmp_path / "monitor", callback().CollapseMonitor(healthy, every_steps=5)
    ).run(5)
    assert {d["action"] for d in training.decisions()} == {"continue"}
    assert any(
        r["status"] == "error" and "boom" in r["reason"]
        for r in training.decisions()[0]["readings"]
    )
    monkeypatch.undo()

    for owner, name in (
        (callback().DecisionRule, "decide"),
        (callback().CollapseMonitor, "_log_numbers"),
        (record, "_append"),
    ):
        monkeypatch.setattr(owner, name, boom)
        training = Training(
            tmp_path / name, callback().CollapseMonitor(healthy, every_steps=5)
        ).run(10)
        assert training.state.global_step == 10 and not training.control.should_training_stop
        monkeypatch.undo()
    assert caplog.text.count("boom") >= 3


def test_files_that_cannot_be_read_back_are_put_aside_and_it_begins_anew(tmp_path, caplog):
    Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5)).run(10, end=False)
    file = tmp_path / "collapse_monitor" / "decisions.jsonl"
    file.write_text(file.read_text() + '{"step": 9, "act')
    resumed = Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5), step=10).run(5)
    assert (
        "it begins anew" in caplog.text
        and (tmp_path / "collapse_monitor-unread-1" / "decisions.jsonl").exists()
    )
    assert [(d["step"], d["round"]) for d in resumed.decisions()] == [(10, 0), (15, 1)]
    Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5), step=10)


@pytest.mark.timeout(600)
def test_in_a_real_sft_trainer_it_measures_resumes_and_stops(tmp_path):
    import torch
    from datasets import Dataset
    from tiny import save_tiny_llama
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    folder = save_tiny_llama(tmp_path / "model", spread=0.05)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    problems = [
        {"problem": f"p{i}", "prompt": f"{i} + 1 =", "answer": str(i + 1)} for i in range(6)
    ]
    data = Dataset.from_list(
        [{"prompt": p["prompt"], "completion": " " + p["answer"]} for p in problems] * 4
    )
    generate = callback().Generate(
        problems, lambda p, text: True, samples=2, max_new_tokens=8, batch_size=16
    )

    def trainer(steps, monitor):
        config = SFTConfig(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            per_device_train_batch_size=4,
            logging_steps=1,
            save_steps=2,
            report_to=[],
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            learning_rate=1e-3,
        )
        made = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder),
            args=config,
            train_dataset=data,
            processing_class=tokenizer,
        )
        monitor.attach(made)
        return made

    first = trainer(4, callback().CollapseMonitor(generate, every_steps=2))
    first.train()
    out = tmp_path / "out" / "collapse_monitor"
    decisions = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    assert [d["step"] for d in decisions] == [0, 2, 4]
    rows = [json.loads(line) for line in (out / "step-00000000.jsonl").read_text().splitlines()]
    assert (
        len(rows) == 6 * 8 and len((out / "step-00000002.jsonl").read_text().splitlines()) == 6 * 2
    )
    assert any("collapse/entropy/token" in entry for entry in first.state.log_history)
    assert [entry["step"] for entry in first.state.log_history if "loss" in entry] == [1, 2, 3, 4]

    def lost(model, tokenizer, step):
        assert not model.training and not torch.is_grad_enabled()
        return [
            {"problem": p["problem"], "text": "?", "correct": False}
            for p in problems
            for _ in range(200)
        ]

    second = trainer(10, callback().CollapseMonitor(lost, every_steps=2))
    second.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    decisions = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines()]
    assert [(d["step"], d["action"]) for d in decisions] == [
        (0, "continue"),
        (2, "continue"),
        (4, "continue"),
        (6, "rollback"),
    ]
    assert second.state.global_step == 6 and "pass@1 1.000 -> 0.000" in decisions[-1]["reasons"][0]


def test_a_text_that_a_strategy_reader_fails_on_is_warned_of_and_training_goes_on(
    tmp_path, monkeypatch, caplog
):
    from ouroloop.monitors.strategies.strategy import CANONICALISERS

    class Fussy:
        name = "operators"

        def __call__(self, question, text):
            if "+10=" in text:
                raise ValueError("as asked")
            return "by heart"

    monkeypatch.setitem(CANONICALISERS, "operators", Fussy())
    with caplog.at_level(logging.WARNING):
        training = Training(tmp_path, callback().CollapseMonitor(healthy, every_steps=5)).run(5)
    assert [row["step"] for row in training.decisions()] == [0, 5]
    assert "(ValueError in operators)" in caplog.text
