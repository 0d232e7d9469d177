"""A question that comes with a system prompt is asked, trained and scored under it."""

import json
from types import SimpleNamespace

import pytest
from scripted_world import carry

from ouroloop.loop.engines.scripted import ScriptedEngine
from ouroloop.loop.folder.store import read_rows
from ouroloop.loop.recipes.recipe_file import resolve

SYSTEM = "Be brief."


def conversation(a):
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"What is {a}+{a + 1}?"},
        {"role": "assistant", "content": f"{a}+{a + 1} = {2 * a + 1}. The answer is {2 * a + 1}."},
    ]


def answer(request):
    """Right: a = the first number of the question, b = a + 1."""
    a = int(request.prompt.rpartition("What is ")[2].partition("+")[0])
    return f"{a}+{a + 1} = {2 * a + 1}. The answer is {2 * a + 1}."


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the engine after one round, what it was asked to score, the run's folder)."""
    folder = tmp_path_factory.mktemp("runs")
    lines = [json.dumps({"messages": conversation(a)}) for a in range(150)]
    (folder / "chats.jsonl").write_text("\n".join(lines))
    engine = ScriptedEngine(answer)
    scored = []
    score = engine.score

    async def noted(pairs):
        scored.extend(prompt for prompt, _ in pairs)
        return await score(pairs)

    engine.score = noted
    recipe = resolve(
        {
            "name": "chats",
            "rounds": 1,
            "task": {
                "kind": "dataset",
                "path": str(folder / "chats.jsonl"),
                "columns": {"messages": "messages"},
                "prompts": {"draft": "{question}\nA:", "chat": False},
            },
            "engine": {"weight_sync_check": False},
            "sampling": {"problems_per_round": 10, "samples_per_problem": 2},
            "refine": {"critique": False, "revisions": 0},
            "dataset": {"min_examples": 2, "gold": True, "replay_fraction": 0.2},
            "probe": {"problems": 4, "samples": 4, "pass_at": 2, "majority": 2, "texts": 4},
            "tracking": {"mlflow": False},
        }
    )
    _, path = carry(folder, SimpleNamespace(engine=engine), recipe)
    return engine, scored, path


def test_drafts_and_probes_are_asked_under_it(run):
    engine, _, _ = run
    stages = {request.id.split("/")[-2] for request in engine.requests}
    assert {"draft", "probe"} <= stages
    assert all(request.prompt.startswith(f"{SYSTEM}\nWhat is ") for request in engine.requests)


def test_samples_gold_traces_and_replayed_demonstrations_are_learnt_under_it(run):
    rows = read_rows(run[2] / "rounds/001/examples.parquet")
    assert {row["origin"] for row in rows} == {"kept", "gold", "demonstration"}
    for row in rows:
        prompt = bytes(row["prompt_token_ids"]).decode()
        assert prompt.startswith(f"{SYSTEM}\nWhat is "), row["origin"]


def test_held_out_texts_are_scored_under_it(run):
    assert run[1] and all(prompt.startswith(SYSTEM) for prompt in run[1])
