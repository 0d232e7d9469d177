"""`ouroloop init`: a recipe for somebody's own data that passes --check and trains."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop import checks
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import data, lengths
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.starting import sizes as sizing
from ouroloop.loop.starting.settings import choose
from ouroloop.loop.starting.sizes import SECONDS, Lengths, Size, seconds, sizes
from ouroloop.loop.starting.survey import Survey
from ouroloop.loop.starting.writing import recipe_text

SHOP = "A shop sells {a} pens and then {b} more. How many pens does it sell?"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Everything is written where the user stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OUROLOOP_RUNS", raising=False)
    # The power analysis takes seconds, and test_checks.py has it.
    monkeypatch.setattr(checks, "CHECKS", (data.check, lengths.check))


def write(name, rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def sums(num=60, **more):
    return [
        {"question": SHOP.format(a=a, b=a + 3), "answer": 2 * a + 3, **more} for a in range(num)
    ]


def init(data, *more, model="arithmetic/base", name="mine"):
    return main(["init", name, "--model", model, "--data", data, *more])


def written(name="mine"):
    return yaml.safe_load(Path(f"{name}.yaml").read_text())


def checked(capsys, name="mine"):
    """(exit code, what --check prints)."""
    capsys.readouterr()
    code = main(["run", f"{name}.yaml", "--check"])
    return code, capsys.readouterr().out


@pytest.fixture
def chat_model(tmp_path):
    """The embedded model with a chat template."""
    folder = shutil.copytree(resolve_model("arithmetic/base"), tmp_path / "chatty")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return "chatty"


def test_sixty_problems_give_a_recipe_that_passes_its_check(capsys, chat_model):
    assert init(write("p.jsonl", sums()), model=chat_model) == 0
    printed = capsys.readouterr().out
    assert "60 problems (question = question, answer = answer)" in printed
    assert [line.strip() for line in printed.splitlines()[-3:]] == [
        "ouroloop run mine.yaml --check",
        "ouroloop run mine.yaml",
        "ouroloop report mine",
    ]
    recipe = written()
    assert recipe["task"]["grader"] == "last_number"
    assert recipe["task"]["prompts"] == {"draft": "{question}", "chat": True}
    assert recipe["dataset"]["min_examples"] <= 6
    text = Path("mine.yaml").read_text()
    assert "# warm_start: {path: demonstrations.jsonl, epochs: 1}" in text
    assert max(map(len, text.splitlines())) <= 100
    code, printed = checked(capsys)
    assert code == 0 and "ready to run; errors: 0" in printed


def test_an_existing_recipe_is_left_as_it_is(capsys):
    Path("mine.yaml").write_text("precious")
    assert init(write("p.jsonl", sums())) == 2
    assert "mine.yaml exists and is left as it is" in capsys.readouterr().err
    assert Path("mine.yaml").read_text() == "precious"


@pytest.mark.parametrize(
    ("rows", "more", "says"),
    [
        (sums(), ["--question", "qestion"], "Did you mean 'question'?"),
        (sums(), ["--model", "nowhere"], "nowhere: no such folder"),
        (sums(), ["--config", "main"], "for a file, which has none"),
        ([{"left": 1, "right": 2}], [], "no column 'question' or 'messages'"),
        (
            [{"q": "1+1?", "a": 2}],
            [],
            "the columns are a, q. Name the one that holds the questions: --question COLUMN, or",
        ),
        (sums(), ["--question", "qestion"], "no column 'qestion', which --question names"),
        ([], [], "no rows"),
        (sums(3), [], "nothing can be compared"),
    ],
)
def test_wrong_input_leaves_no_recipe_behind(capsys, rows, more, says):
    assert init(write("p.jsonl", rows), *more) == 2
    assert says in capsys.readouterr().err
    assert not Path("mine.yaml").exists()


def test_a_name_that_leads_to_another_folder_is_refused(capsys):
    assert init(write("p.jsonl", sums()), name="../mine") == 2
    assert "name" in capsys.readouterr().err and not Path("../mine.yaml").exists()


def test_a_folders_own_held_out_split_goes_into_the_recipe():
    Path("folder").mkdir()
    write("folder/train.jsonl", sums(40))
    write("folder/test.jsonl", [{"question": f"Held out {n}?", "answer": n} for n in range(20)])
    assert init("folder", "--heldout-split", "test") == 0
    assert written()["task"]["heldout_split"] == "test"
    assert written()["probe"]["problems"] == 20


def test_columns_are_guessed_by_their_usual_names_or_named(capsys):
    rows = [{"Problem": f"{a} and {a}?", "target": 2 * a, "n": a} for a in range(60)]
    assert init(write("p.jsonl", rows)) == 0
    assert written()["task"]["columns"] == {"question": "Problem", "answer": "target"}
    assert init("p.jsonl", "--answer", "n", name="other") == 0
    assert written("other")["task"]["columns"] == {"question": "Problem", "answer": "n"}


def test_rows_that_ask_the_same_again_are_counted_aloud(capsys):
    assert init(write("p.jsonl", [*sums(60), *sums(25)])) == 0
    printed = capsys.readouterr().out
    assert "60 problems" in printed and " 25 rows ask what an earlier one asks" in printed
    assert init(write("q.jsonl", sums(60)), name="other") == 0
    assert "earlier one" not in capsys.readouterr().out


def test_without_gold_answers_the_critic_filters(capsys):
    rows = [
        {"instruction": f"Praise the number {a}.", "output": "It is a fine number. " * 8}
        for a in range(60)
    ]
    assert init(write("p.jsonl", rows)) == 0
    recipe = written()
    assert recipe["task"]["columns"] == {"question": "instruction", "solution": "output"}
    assert recipe["task"]["grader"] == "none"
    assert recipe["filters"]["critic"] is True and recipe["filters"]["gold"] is False
    assert recipe["refine"]["critique"] is True
    code, printed = checked(capsys)
    assert code == 0 and "critic; the data has what they need" in printed


def test_a_first_recipe_never_asks_for_more_than_the_model_has_positions(capsys):
    write("free.jsonl", [{"question": f"Write to {n}."} for n in range(60)])
    assert init("free.jsonl") == 0
    raw = written()
    assert raw["engine"]["max_model_len"] == 512
    code, said = checked(capsys)
    assert code == 0 and "warning  lengths" not in said, said


def test_a_name_that_yaml_would_read_as_a_number_stays_a_name():
    write("p.jsonl", sums())
    assert init("p.jsonl", name="2024") == 0
    assert written("2024")["name"] == "2024"


def test_words_as_answers_are_asked_for_with_a_mark_that_the_grader_reads(capsys):
    rows = [{"question": f"Who is number {a}?", "answer": f"Name {chr(65 + a)}"} for a in range(26)]
    assert init(write("p.jsonl", rows * 2)) == 0
    task = written()["task"]
    assert task["grader"] == "final_answer"
    assert "The answer is X" in task["prompts"]["draft"]


def test_answers_in_boxes_are_read_in_the_solutions_and_asked_for(capsys):
    rows = [
        {"problem": f"Simplify {a}x + x.", "solution": rf"It is $\boxed{{{a + 1}x}}$."}
        for a in range(1, 61)
    ]
    assert init(write("p.jsonl", rows)) == 0
    task = written()["task"]
    assert r"\boxed" in task["prompts"]["draft"]
    assert "# warm_start: {epochs: 1}" in Path("mine.yaml").read_text()
    assert "grader accepts all" in checked(capsys)[1]


def test_conversations_become_questions_and_solutions(capsys):
    rows = [
        {
            "prompt": "not this one",
            "messages": [
                {"role": "user", "content": SHOP.format(a=a, b=1)},
                {"role": "assistant", "content": f"{a}+1 = {a + 1}. The answer is {a + 1}."},
            ],
        }
        for a in range(60)
    ]
    assert init(write("p.jsonl", rows)) == 0
    assert written()["task"]["columns"] == {"messages": "messages"}
    assert "0 with a gold answer" not in capsys.readouterr().out
    assert "grader accepts all" in checked(capsys)[1]


def test_conversations_of_several_turns_are_criticised_in_further_turns(capsys):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Tell me about place {a}"},
                {"role": "assistant", "content": "Which of them?"},
                {"role": "user", "content": "The largest."},
            ],
            "family": "talk",
        }
        for a in range(60)
    ]
    assert init(write("p.jsonl", rows)) == 0
    recipe = written()
    assert recipe["refine"]["form"] == "turns" and recipe["filters"]["critic"] is True
    assert recipe["task"]["prompts"]["draft"] == "{question}"
    code, printed = checked(capsys)
    assert code == 0, printed


def test_large_data_gets_a_larger_probe_set_and_fewer_samples_of_each_problem(capsys):
    assert init(write("p.jsonl", sums(700))) == 0
    recipe = written()
    assert recipe["probe"]["problems"] == 100 and recipe["probe"]["baseline_samples"] == 16
    assert recipe["sampling"]["problems_per_round"] == 200
    assert recipe["sampling"]["samples_per_problem"] == 4
    assert recipe["dataset"]["min_examples"] == 10


SURVEY = Survey(
    columns={},
    grader="last_number",
    num_problems=60,
    num_repeated=0,
    num_train=45,
    num_heldout=12,
    num_answers=45,
    num_solutions=45,
    num_conversations=0,
    numeric=1.0,
    question_tokens=60,
    solution_tokens=40,
    ending="",
)
SMOLLM2_BYTES = 269_000_000


def test_a_model_that_writes_no_verdicts_learns_every_revision_as_published():
    """SmolLM2-135M ended none of 100 critiques in a verdict, and nothing was kept."""
    texts = replace(SURVEY, grader="none", num_answers=0, num_solutions=0, numeric=0.0)
    for num_bytes, can_judge in ((10**6, True), (SMOLLM2_BYTES, False), (3 * 10**9, True)):
        settings = choose(texts, num_bytes, is_gpu=False)
        text = recipe_text("mine", "m", {"path": "p.jsonl"}, texts, settings, chat=True)
        recipe = yaml.safe_load(text)
        assert settings.can_judge is can_judge is recipe["filters"]["critic"]
        always = recipe["refine"].get("revise_when") == "always"
        assert always is not can_judge and recipe["refine"]["critique"] is True
        resolve({**recipe, "model": "arithmetic/base"})


def test_a_weak_model_is_asked_for_revisions_of_conversations_in_the_published_form():
    """In turns SmolLM2 repeated half of its critiques in the place of answering."""
    talks = replace(SURVEY, grader="none", num_answers=0, num_solutions=0, num_conversations=45)
    for num_bytes, form in ((SMOLLM2_BYTES, "paper"), (3 * 10**9, "turns")):
        settings = choose(talks, num_bytes, is_gpu=False)
        text = recipe_text("mine", "m", {"path": "p.jsonl"}, talks, settings, chat=True)
        assert yaml.safe_load(text)["refine"]["form"] == form


def chosen(is_gpu=False, weight_bytes=SMOLLM2_BYTES, **changes):
    """(size, seconds that a run of it takes on two cores)."""
    survey = replace(SURVEY, **changes)
    size = choose(survey, weight_bytes, is_gpu).size
    lengths = Lengths(survey.question_tokens + 32, survey.solution_tokens or 256, 256)
    return size, seconds(size, lengths, 0, weight_bytes)


def test_a_first_run_on_two_cores_is_as_large_as_a_quarter_of_an_hour_allows():
    # Sixty problems without solutions: answers run on to the limit.
    size, took = chosen(num_solutions=0, solution_tokens=0)
    assert (size.rounds, size.samples, size.baseline_samples) == (2, 4, 16)
    assert took <= SECONDS < seconds(sizes(SURVEY)[0], Lengths(92, 256, 256), 0, SMOLLM2_BYTES)
    # Answers as short as the demonstrations leave room for more of them.
    assert chosen()[0] == sizes(SURVEY)[0]
    # Large data: fewer problems of it.
    many = {"num_train": 5000, "num_heldout": 1000, "num_solutions": 0, "solution_tokens": 0}
    size, took = chosen(**many)
    assert size.rounds == 2 and size.problems < 200 and took <= SECONDS
    # A model too large for any of it: the least that may still train.
    assert chosen(weight_bytes=10 * SMOLLM2_BYTES, **many)[0] == sizes(replace(SURVEY, **many))[-1]


def test_a_gpu_or_a_tiny_model_begins_with_the_largest_size():
    many = {"num_train": 5000, "num_heldout": 1000, "num_solutions": 0, "solution_tokens": 0}
    largest = sizes(replace(SURVEY, **many))[0]
    assert largest == Size(4, 200, 4, 100, 16)
    assert chosen(is_gpu=True, **many)[0] == largest
    assert chosen(weight_bytes=4_000_000, **many)[0] == largest


def test_a_small_first_recipe_says_what_to_raise(capsys, monkeypatch):
    monkeypatch.setattr(sizing, "SECONDS", 0)
    assert init(write("p.jsonl", sums())) == 0
    recipe = written()
    assert recipe["rounds"] == 2 and recipe["sampling"]["problems_per_round"] == 25
    text = Path("mine.yaml").read_text()
    assert "To see more:" in text and "# rounds: 4, sampling.problems_per_round: 55," in text
    assert "probe.baseline_samples: 32." in text
    # Few are held out, and all are in the probe set already: nothing to raise there.
    assert f"probe.problems: {recipe['probe']['problems']}" not in text
    assert max(map(len, text.splitlines())) <= 100
    code, printed = checked(capsys)
    assert code == 0, printed


@pytest.mark.slow
def test_sixty_problems_train_a_round_of_the_embedded_model(capsys, tmp_path):
    problems = ArithmeticTask().problems("train")[:60]
    with Path("sums.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "target", "solution"])
        writer.writerows([p.question, p.answer, p.solution] for p in problems)
    assert init("sums.csv") == 0
    code, printed = checked(capsys)
    assert code == 0, printed
    # What the embedded model was trained on is asked as it knows it.
    changed = {
        "task.prompts.draft": '"{question}\\nA:\\n"',
        "engine.kind": "transformers",
        "sampling.samples_per_problem": "4",
        "sampling.max_tokens": "80",
        "rounds": "1",
        "probe.baseline_samples": "8",
        "tracking.mlflow": "false",
    }
    overrides = [part for key, value in changed.items() for part in ("--set", f"{key}={value}")]
    assert main(["run", "mine.yaml", "--runs", str(tmp_path / "runs"), *overrides]) == 0
    train = json.loads((tmp_path / "runs/mine/rounds/001/train.json").read_text())
    assert train["status"] == "trained" and train["num_examples"] >= 4
