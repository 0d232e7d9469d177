"""`ouroloop run RECIPE --check`: what it says of data, sampling and probe set, and how it ends."""

import json
from pathlib import Path

import pytest
import yaml

from ouroloop.loop import checks
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import Level, data, lengths, probe_set
from ouroloop.loop.checks.findings import Finding, as_text
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views import power
from ouroloop.monitors.decision.power import CHANCES, Power
from ouroloop.monitors.names import Tier

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

NOWHERE = Path("no-such-run")


def rows(num=60, **more):
    return [{"q": f"What is {a} + {a}?", "gold": str(2 * a), **more} for a in range(num)]


@pytest.fixture
def prepared(tmp_path):
    """A setting from rows and what the recipe says beside its task."""

    def make(table, task=None, **sections):
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
        columns = {"question": "q", "answer": "gold"}
        raw = {"kind": "dataset", "path": str(path), "columns": columns, **(task or {})}
        return prepare(resolve({"name": "checked", "task": raw, **sections}))

    return make


# ----- answers -----


def test_gold_answers_that_the_grader_accepts_are_fine(prepared):
    found = data.answers(prepared(rows()))
    assert found.level is Level.OK and "all 60 gold answers" in found.what


def test_gold_answers_that_no_text_can_match_are_counted_and_shown(prepared):
    # A colon starts another statement, so this is read as something else.
    table = rows()
    for row in table[:5]:
        row["gold"] = "yes. And no"
    found = data.answers(prepared(table))
    assert found.level is Level.WARNING
    assert "does not accept 5 of 60" in found.what
    assert found.what.count("'yes. And no'") == 3


def test_answers_of_which_none_can_match_are_an_error_where_they_filter(prepared):
    table = [{**row, "gold": "yes. And no"} for row in rows()]
    assert data.answers(prepared(table)).level is Level.ERROR
    unfiltered = prepared(table, filters={"gold": False, "critic": True})
    assert data.answers(unfiltered).level is Level.WARNING


def test_without_gold_answers_nothing_is_graded(prepared):
    free = [{"q": row["q"], "gold": None} for row in rows()]
    setting = prepared(free, {"grader": "none"}, filters={"gold": False, "format": False})
    assert data.answers(setting).level is Level.OK
    assert "none judges what is right" in data.filters(setting).what
    found = probe_set.check(setting, NOWHERE)[0]
    assert found.level is Level.WARNING
    assert "no problem of the probe set has a gold answer; 10 p" in found.what


GRADERS = """
def texts(text, problem):
    raise KeyError("no such thing")


def score(text, problem, value="right"):
    return {"right": "right", "nan": float("nan"), "two": 2, "yes": True}[value]
"""


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("texts", {}, "(KeyError: 'no such thing')"),
        ("score", {}, "got 'right')"),
        ("score", {"value": "nan"}, "got nan)"),
        ("score", {"value": "two"}, "got 2)"),
    ],
)
def test_a_grader_of_ones_own_is_tried(prepared, tmp_path, name, options, says):
    (tmp_path / "graders.py").write_text(GRADERS)
    grader = {"use": f"{tmp_path}/graders.py:{name}", "options": options}
    found = data.answers(prepared(rows(), {"grader": grader}, filters={"format": False}))
    assert found.level is Level.ERROR and says in found.what
    mild = {"gold": False, "format": False, "critic": True}
    assert data.answers(prepared(rows(), {"grader": grader}, filters=mild)).level is Level.WARNING


def test_a_grader_of_ones_own_that_works_is_said_to(prepared, tmp_path):
    (tmp_path / "graders.py").write_text(GRADERS)
    grader = {"use": f"{tmp_path}/graders.py:score", "options": {"value": "yes"}}
    found = data.answers(prepared(rows(), {"grader": grader}, filters={"format": False}))
    assert found.level is Level.OK and "tried on 20 texts and calls 20 of them right" in found.what


# ----- supply and filters -----


def test_an_agreement_that_a_family_without_answers_cannot_reach_is_not_offered(prepared):
    table = [{**row, "family": "sums"} for row in rows()]
    table += [{"q": f"Greet {n}.", "gold": None, "family": "talk"} for n in range(60)]
    columns = {"question": "q", "answer": "gold", "family": "family"}
    free = {"gold": False, "format": False}
    found = data.filters(prepared(table, {"columns": columns}, filters=free))
    assert "none judges" in found.what and "agreement" not in found.what
    free["agreement"] = 0.5
    found = data.filters(prepared(table, {"columns": columns}, filters=free))
    assert found.level is Level.WARNING and "the family talk has no gold answers" in found.what


def test_the_published_loop_learns_every_revision_and_is_no_warning(prepared):
    free = [{"q": row["q"], "gold": None} for row in rows()]
    off = {"gold": False, "format": False}
    revised = {"critique": True, "revisions": 1, "revise_when": "always"}
    for refine, level in (
        (revised, Level.OK),
        ({**revised, "revise_when": "rejected"}, Level.WARNING),
        ({**revised, "families": ["default"]}, Level.WARNING),
    ):
        setting = prepared(free, {"grader": "none"}, filters=off, refine=refine)
        assert data.filters(setting).level is level


def test_supply_is_problems_times_samples_against_what_a_training_takes(prepared):
    def supply(num, least, **more):
        setting = prepared(
            rows(),
            {"num_problems": 10},
            sampling={"samples_per_problem": num},
            dataset={"min_examples": least},
            **more,
        )
        return data.supply(setting)

    fine = supply(8, 4)
    assert fine.level is Level.OK and "10 problems x 8 samples = 80 a round" in fine.what
    assert supply(8, 16).level is Level.WARNING, "16 of at most 40"
    never = supply(2, 21)
    assert never.level is Level.ERROR and "at most 20 can be kept" in never.what
    assert supply(8, 41).level is Level.ERROR, "four of a problem are kept at most"
    assert supply(8, 41, filters={"per_problem": None}).level is Level.WARNING


def test_greedy_samples_of_a_problem_are_one_text_and_a_warning(prepared):
    def found(**sampling):
        refine = sampling.pop("refine", {})
        return data.greedy(prepared(rows(), sampling=sampling, refine=refine))

    (warning,) = found(temperatures=[0], samples_per_problem=4, problems_per_round=10)
    assert warning.level is Level.WARNING
    assert "at most 10 problems x 1 = 10 different drafts a round" in warning.what
    assert "Set sampling.samples_per_problem to 1, or sampling.temperatures" in warning.what
    whole = data.check(prepared(rows(), sampling={"temperatures": [0]}), NOWHERE)
    assert "sampling" in [finding.about for finding in whole]
    (half,) = found(temperatures=[0, 1.0], samples_per_problem=4)
    assert "2 of 4 samples" in half.what and "x 3 = 150 different drafts" in half.what
    assert not found(temperatures=[0, 1.0], samples_per_problem=2)
    assert not found(temperatures=[0], samples_per_problem=2, systems=["Be brief.", "Explain."])
    always = {"critique": True, "revisions": 1, "revise_when": "always", "revise_temperature": 0.7}
    assert not found(temperatures=[0], samples_per_problem=4, refine=always)


def test_a_training_set_that_holds_solutions_needs_no_kept_samples(prepared):
    setting = prepared(rows(solution="2"), dataset={"gold": True, "min_examples": 500})
    assert data.supply(setting).level is Level.OK


def test_filters_are_compared_with_the_data_and_the_sampling(prepared):
    table = rows()
    for row in table[:30]:
        row["gold"] = None
    unanswered = data.filters(prepared(table))
    assert unanswered.level is Level.WARNING and "have no gold answer" in unanswered.what
    sampling, filters = {"samples_per_problem": 2}, {"gold": False, "agreement": 0.5}
    votes = data.filters(prepared(rows(), sampling=sampling, filters=filters))
    assert votes.level is Level.WARNING and "2 samples of a problem are no vote" in votes.what
    assert data.filters(prepared(rows())).level is Level.OK


# ----- lengths -----


def test_prompts_that_leave_no_room_are_a_warning_and_an_error_where_none_fits(prepared):
    few = rows()
    few[0]["q"] = "Long " * 80
    fine = lengths.check(prepared(rows(), engine={"max_model_len": 1024}), NOWHERE)[0]
    assert fine.level is Level.OK and "counted" in fine.what
    some = lengths.check(prepared(few, engine={"max_model_len": 400}), NOWHERE)[0]
    assert some.level is Level.WARNING and "whose answers are cut" in some.what
    none = lengths.check(prepared(rows(), engine={"max_model_len": 64}), NOWHERE)[0]
    assert none.level is Level.ERROR and "100% of the problems" in none.what


def test_room_for_a_draft_but_not_for_its_revision_is_a_warning(prepared):
    sampling, engine = {"max_tokens": 64}, {"max_model_len": 256}
    drafted = prepared(
        rows(), sampling=sampling, engine=engine, refine={"critique": False, "revisions": 0}
    )
    assert lengths.check(drafted, NOWHERE)[0].level is Level.OK
    revised = prepared(rows(), sampling=sampling, engine=engine)
    found = lengths.check(revised, NOWHERE)[0]
    assert found.level is Level.WARNING and "a critique or revision of the longest" in found.what


def test_without_a_readable_tokenizer_lengths_go_by_characters(tmp_path, monkeypatch):
    import tokenizers

    def broken(path):
        raise Exception("not a tokenizer")

    monkeypatch.setattr(tokenizers.Tokenizer, "from_file", broken)
    counter = lengths.Counter.of(prepare(resolve({"name": "x"})).base)
    assert counter.count(["a" * 300]) == [101] and "characters" in counter.how


# ----- the probe set -----


@pytest.mark.slow
def test_a_small_probe_set_is_a_warning_with_the_size_that_would_do(prepared):
    (found,) = probe_set.check(prepared(rows()), NOWHERE)
    assert found.level is Level.WARNING
    assert "coarse" in found.what and "problems show 10" in found.what


def test_a_probe_set_of_usual_size_is_fine(prepared):
    (found,) = probe_set.check(prepared(rows(700), probe={"problems": 120}), NOWHERE)
    assert found.level is Level.OK and "show a fall of pass@1 by" in found.what


def test_few_prompts_that_nobody_scores_are_a_warning_with_what_stays_unseen(prepared, monkeypatch):
    def simulated(rule, population, design, only):
        least = {100: 0.08}.get(design.num_free, 0.4)
        return [Power("canned", "canned", smallest={(Tier.WATCH, 1, CHANCES[0]): least})]

    monkeypatch.setattr(power, "power", simulated)
    unseen = {"monitors": {"gold": False}, "filters": {"gold": False}}
    (found,) = probe_set.check(prepared(rows(), **unseen), NOWHERE)
    assert found.level is Level.WARNING and "are shown and not guarded" in found.what
    assert "a canned text below 40% of the samples" in found.what
    assert "100 problems show 10%" in found.what
    (found,) = probe_set.check(
        prepared(rows(700), probe={"problems": 100, "family_problems": 0}, **unseen), NOWHERE
    )
    assert found.level is Level.OK and "a canned text from 8% of the samples on" in found.what


# ----- the command -----


def attempt(tmp_path, capsys, *more, **sections):
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    task = {"kind": "dataset", "path": "p.jsonl", "columns": {"question": "q", "answer": "gold"}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "task": task, **sections}))
    code = main(["run", str(path), "--runs", str(tmp_path / "runs"), *more])
    assert not (tmp_path / "runs").exists(), "something was made"
    return code, capsys.readouterr()


def test_a_check_prints_a_line_for_each_thing_and_makes_nothing(tmp_path, capsys):
    code, printed = attempt(tmp_path, capsys, "--check")
    lines = printed.out.splitlines()
    assert code == 0 and len(lines) <= 14
    assert [line.split()[1] for line in lines[:4]] == ["problems", "answers", "supply", "filters"]
    assert lines[-1].endswith("mine.yaml: ready to run; errors: 0, warnings: 1.")


def test_a_check_with_an_error_ends_with_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checks, "CHECKS", (data.check,))
    code, printed = attempt(tmp_path, capsys, "--check", dataset={"min_examples": 5000})
    assert code == 2 and "not ready to run; errors: 1" in printed.out


def test_print_gives_the_resolved_recipe_alone(tmp_path, capsys):
    code, printed = attempt(tmp_path, capsys, "--print")
    raw = json.loads(printed.out)
    assert code == 0 and raw["task"]["split"] == "train" and raw["rounds"] == 6
    assert resolve(raw).to_json() == raw


def test_a_wrong_column_is_one_sentence_and_exit_code_2(tmp_path, capsys):
    code, printed = attempt(tmp_path, capsys, "--check", "--set", "task.columns.question=quest")
    assert code == 2
    assert "no column 'quest', which task.columns.question names" in printed.err
    assert printed.err.strip().count("\n") == 0


def test_a_data_sets_name_stays_a_name_and_a_files_path_becomes_absolute(tmp_path):
    def path_of(written):
        recipe = tmp_path / "r.yaml"
        raw = {"task": {"kind": "dataset", "name": "main", "split": "a", "heldout_split": "b"}}
        raw["task"]["path"] = written
        recipe.write_text(yaml.safe_dump(raw))
        task = load_recipe(recipe).task
        assert (task.name, task.split, task.heldout_split) == ("main", "a", "b")
        return task.path

    assert path_of("openai/gsm8k") == "openai/gsm8k"
    assert path_of("sub/p.jsonl") == str(tmp_path / "sub/p.jsonl")
    (tmp_path / "folder").mkdir()
    assert path_of("folder") == str(tmp_path / "folder")


def test_held_out_problems_come_from_one_place(tmp_path):
    task = {"kind": "dataset", "path": "x", "heldout_split": "test", "heldout_path": "y.csv"}
    with pytest.raises(ValueError, match="not both"):
        resolve({"name": "x", "task": task})


def test_the_number_of_rounds_costs_a_check_nothing(prepared):
    num = 2_000_000_000
    stages = [{"rounds": num, "objective": "sft"}, {"rounds": num, "objective": "dpo"}]
    refine = {"critique": True, "revisions": 1}
    setting = prepared(rows(), stages=stages, refine=refine, pairs={"sources": ["revision"]})
    (found,) = data.schedule(setting)
    assert found.what == (
        f"rounds 1 to {num}: sft; rounds {num + 1} to {2 * num}: dpo on pairs (revision)"
    )
    assert lengths.check(setting, NOWHERE)


def test_every_check_is_listed_and_findings_are_aligned():
    assert [look.__module__.rpartition(".")[2] for look in checks.CHECKS] == [
        "data",
        "copies",
        "lengths",
        "probe_set",
        "traces",
        "judge",
        "model",
        "storage",
    ]
    findings = [Finding(Level.OK, "a", "fine"), Finding(Level.WARNING, "bcd", "hm")]
    assert as_text(findings).splitlines() == ["ok       a    fine", "warning  bcd  hm"]


# ----- conversations -----


@pytest.fixture
def talking(tmp_path):
    """A setting of conversations with worked dialogues, and a chat template of somebody's."""

    def make(room, template="{{ messages[0]['content'] }}", system=False):
        from dataclasses import replace

        shot = (
            "\n\nHuman: a\n\nAssistant: b\n\nCritiqueRequest: c\n\nCritique: "
            + "d" * 300
            + "\n\nRevisionRequest: e\n\nRevision: f"
        )
        (tmp_path / "shots.json").write_text(json.dumps([shot] * 4))
        first = [{"role": "system", "content": "s"}] if system else []
        spoken = [("user", "Hi"), ("assistant", "Hello"), ("user", "What is {0}?")]
        table = [
            {
                "messages": first
                + [{"role": role, "content": said.format(a)} for role, said in spoken]
            }
            for a in range(40)
        ]
        path = tmp_path / "talk.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
        raw = {
            "name": "talking",
            "task": {"kind": "dataset", "path": str(path), "grader": "none"},
            "engine": {"max_model_len": room},
            "sampling": {"max_tokens": 32},
            "refine": {"form": "turns", "shots": str(tmp_path / "shots.json")},
            "filters": {"gold": False, "format": False, "critic": True},
        }
        setting = prepare(resolve(raw))
        # The embedded model has no chat template: its tokenizer is given one.
        folder = tmp_path / "model"
        if not folder.exists():
            import shutil

            shutil.copytree(setting.base, folder)
            (folder / "chat_template.jinja").write_text(template)
        return replace(setting, base=folder, prompts=replace(setting.prompts, chat=True))

    return make


def test_worked_dialogues_that_have_no_room_are_counted_before_the_run(talking):
    (_, found) = lengths.check(talking(4096), NOWHERE)
    assert found.level is Level.OK and "the last 4 have room" in found.what
    (_, found) = lengths.check(talking(900), NOWHERE)
    assert found.level is Level.WARNING and "of 4 worked dialogues" in found.what
    assert "the last 2 have room" in found.what and "engine.max_model_len" in found.what


@pytest.mark.slow
def test_a_template_that_refuses_a_conversations_turns_is_an_error_before_the_run(talking):
    from ouroloop.loop.checks import turns

    assert list(turns.check(talking(1024))) == []


def test_a_template_without_a_system_turn_is_found(talking):
    from ouroloop.loop.checks import turns

    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    )
    (found,) = turns.check(talking(1024, template, system=True))
    assert found.level is Level.ERROR
    assert "refuses the turns system, user, assistant, user of 40 problems" in found.what
    assert "(no system role)" in found.what
