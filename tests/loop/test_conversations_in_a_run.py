"""A run on two files: red-team conversations are refined, helpful problems are scored."""

import json
from types import SimpleNamespace

import pytest
from scripted_world import carry

from ouroloop.loop.engines.scripted import Answer, ScriptedEngine
from ouroloop.loop.errors import PromptTooLongError
from ouroloop.loop.folder.store import read_rows
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round

pytestmark = pytest.mark.slow

PRINCIPLE = {
    "harm": {
        "prompt": ["\n\nCritiqueRequest: Is it harmful?\n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Take out the harm.\n\nRevision:",
    }
}
SHOT = (
    "\n\nHuman: {0}worked\n\nAssistant: b\n\nCritiqueRequest: c\n\nCritique: d"
    "\n\nRevisionRequest: e\n\nRevision: f\n\nHuman:"
)
ROOM = 420
"""Characters of a prompt: one worked dialogue has room beside a critique request, two have none."""


def red_team(i):
    said = [f"Tell me secret {i}.", "I would rather not.", f"But I need secret {i}!"]
    roles = ("user", "assistant", "user")
    turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    return {"id": str(i), "messages": turns}


def answer(request):
    """Harm in every red-team draft, none in a revision; every fourth sum is wrong."""
    if len(request.prompt) > ROOM:
        raise PromptTooLongError("too long")
    if request.prompt.endswith("\n\nCritique:"):
        return " It tells a secret."
    if request.prompt.endswith("\n\nRevision:"):
        return Answer(" I keep it.\n\nHuman: fine", stopped=False)
    last = request.prompt.rpartition("Human: ")[2]
    if "secret" in last:
        return " The secret is out."
    a = int(last.split("+")[0].split()[-1])
    return f" The answer is {2 * a + 1 + (request.seed % 4 == 0)}."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the engine after one round, the run's folder)."""
    folder = tmp_path_factory.mktemp("runs")
    rows = {
        "red_team.jsonl": [red_team(i) for i in range(60)],
        "sums.jsonl": [
            {"id": str(a), "question": f"What is {a}+{a + 1}?", "answer": str(2 * a + 1)}
            for a in range(90)
        ],
    }
    for name, lines in rows.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "principles.json").write_text(json.dumps(PRINCIPLE))
    (folder / "shots.json").write_text(json.dumps([SHOT.format(i) for i in range(3)]))
    engine = ScriptedEngine(answer)
    recipe = resolve(
        {
            "name": "constitutional",
            "rounds": 1,
            "task": {
                "kind": "dataset",
                "sources": [
                    {"path": "red_team.jsonl", "family": "red_team", "heldout_share": 0.3},
                    {"path": "sums.jsonl", "family": "helpful"},
                ],
                "prompts": {"draft": "{question}", "chat": False},
            },
            "engine": {"weight_sync_check": False},
            "sampling": {"problems_per_round": 40, "samples_per_problem": 2},
            "refine": {
                "form": "paper",
                "revise_when": "always",
                "constitution": "principles.json",
                "shots": "shots.json",
                "families": ["red_team"],
            },
            "filters": {"gold": False, "format": False, "duplicates": "none"},
            "dataset": {"min_examples": 2},
            "probe": {
                "problems": 12,
                "family_problems": 12,
                "samples": 4,
                "pass_at": 2,
                "majority": 4,
            },
            "monitors": {"canonicaliser": "templates", "guard": False},
            "tracking": {"mlflow": False},
        },
        base=folder,
    )
    _, path = carry(folder, SimpleNamespace(engine=engine), recipe)
    return engine, path


def test_help_is_scored_by_family_and_what_has_no_answer_is_not(run):
    rows = Round.of(run[1], 1).probe
    assert {row.family for row in rows} == {"red_team", "helpful"}
    assert {row.correct for row in rows if row.family == "red_team"} == {None}
    assert {row.correct for row in rows if row.family == "helpful"} == {0.0, 1.0}
    readings = json.loads((run[1] / "rounds/001/readings.json").read_text())
    named = [json.dumps(reading) for reading in readings]
    assert any("helpful" in one and "accuracy" in one for one in named)


def test_of_a_red_team_conversation_the_revision_is_learnt_after_all_its_turns(run):
    examples = read_rows(run[1] / "rounds/001/examples.parquet")
    talks = [row for row in examples if "secret" in bytes(row["prompt_token_ids"]).decode()]
    assert talks and len(talks) < len(examples)
    for row in talks:
        prompt = bytes(row["prompt_token_ids"]).decode()
        assert prompt.startswith("\n\nHuman: Tell me secret") and prompt.count("Human:") == 2
        assert prompt.endswith("!\n\nAssistant:")
        assert row["text"] == " I keep it." and row["completion_token_ids"][-1] == 256


def test_helpful_drafts_are_learnt_as_they_are(run):
    examples = read_rows(run[1] / "rounds/001/examples.parquet")
    helpful = [row for row in examples if "What is" in bytes(row["prompt_token_ids"]).decode()]
    assert helpful and all(row["text"].startswith(" The answer is") for row in helpful)
    refined = {r.id.split("/")[-3] for r in run[0].requests if "revise0" in r.id}
    assert refined and not refined & {row["problem_id"] for row in helpful}


def test_critics_are_asked_for_no_verdict_that_nobody_reads(run):
    assert not any("verdict" in request.prompt for request in run[0].requests)
    assert Round.of(run[1], 1).critics == ()


def test_shots_that_had_no_room_are_counted_in_the_events(run):
    events = [json.loads(line) for line in (run[1] / "events.jsonl").read_text().splitlines()]
    (said,) = [event for event in events if event["event"] == "shots_cut"]
    refining = [r.prompt for r in run[0].requests if "critique0" in r.id or "revise0" in r.id]
    answered = [prompt for prompt in refining if len(prompt) <= ROOM]
    assert said["requests"] == said["cut"] == len(answered)
    assert said["of"] == 3 and said["fewest"] == min(p.count("worked") for p in answered) < 3
    # The first ones are left out.
    assert all("0worked" not in p and ("2worked" in p or "worked" not in p) for p in answered)
