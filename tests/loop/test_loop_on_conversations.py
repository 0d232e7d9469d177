"""Conversations through a real engine and a real training, on a tiny model with a chat template."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from tiny import save_tiny_llama

from ouroloop.loop.__main__ import main
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.transformers_local import load_codec
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.round import Round

pytestmark = pytest.mark.slow

TEMPLATE = (
    "{% for m in messages %}<bos>{{ m['role'][0] }}:{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<bos>a:{% endif %}"
)
SHOT = (
    f"\n\nHuman: worked{{}}\n\nAssistant: {'b' * 30}\n\nCritiqueRequest: c\n\nCritique: d"
    "\n\nRevisionRequest: e\n\nRevision: f\n\nHuman:"
)


def turns(*said):
    roles = ("user", "assistant") * len(said)
    return [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(exit code, the model's codec, the run's folder) of a round of random weights."""
    folder = tmp_path_factory.mktemp("runs")
    model = save_tiny_llama(folder / "model")
    (model / "chat_template.jinja").write_text(TEMPLATE)
    asked = [{"messages": turns(f"Hi {i}", "No!", f"Secret {i}<eos>?")} for i in range(40)]
    solved = [{"messages": turns(f"{i}+1", str(i + 1), "2+2", "4")} for i in range(40)]
    for name, rows in (("asked", asked), ("solved", solved)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # The context holds one to three of these beside the request of a revision, never all four.
    (folder / "shots.json").write_text(json.dumps([SHOT.format(i) for i in range(4)]))
    recipe = {
        "name": "talk",
        "model": "./model",
        "rounds": 1,
        "task": {
            "kind": "dataset",
            "sources": [
                {"path": "asked.jsonl", "family": "red_team"},
                {"path": "solved.jsonl", "family": "helpful"},
            ],
            "prompts": {"draft": "{question}"},
        },
        "engine": {"kind": "transformers", "max_model_len": 512},
        "sampling": {"problems_per_round": 30, "samples_per_problem": 4, "max_tokens": 60},
        "refine": {
            "form": "turns",
            "revise_when": "always",
            "shots": "shots.json",
            "families": ["red_team"],
            "critique_temperature": 1.0,
            "max_critique_tokens": 60,
        },
        "filters": {"gold": False, "format": False, "duplicates": "none", "min_tokens": 0},
        "dataset": {"min_examples": 2, "gold": True, "learn_turns": "all"},
        "sft": {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 8},
        "probe": {
            "problems": 4,
            "family_problems": 4,
            "samples": 4,
            "baseline_samples": 4,
            "pass_at": 4,
            "majority": 4,
            "texts": 2,
            "audit_items": 0,
        },
        "monitors": {"guard": False, "canonicaliser": "templates"},
        "tracking": {"mlflow": False},
    }
    path = folder / "talk.yaml"
    path.write_text(yaml.safe_dump(recipe))
    code = main(["run", str(path), "--runs", str(folder / "out")])
    return code, load_codec(check_checkpoint(model)), Path(folder / "out" / "talk")


def decoded(run, ids):
    return run[1].tokenizer.decode(ids)


def test_the_run_ends_well_and_was_trained_on_both_families(run):
    code, _, path = run
    assert code == 0
    assert read_json(path / "rounds/001/train.json")["status"] == "trained"
    origins = Counter(example.origin for example in Round.of(path, 1).examples)
    assert origins["kept"] >= 2 and origins["gold"] >= 2


def test_kept_samples_follow_the_conversation_whose_control_tokens_are_text(run):
    samples = {sample.id: sample for sample in Round.of(run[2], 1).samples}
    kept = [e for e in Round.of(run[2], 1).examples if e.origin == "kept"]
    talks = [e for e in kept if "Secret" in decoded(run, e.prompt_token_ids)]
    assert talks
    for example in talks:
        sample = samples[example.sample_id]
        assert example.prompt_token_ids == sample.draft.prompt_token_ids
        assert example.completion_token_ids == sample.final.token_ids
        assert example.learnt_prompt_positions == ()
        # Three turns end; the one that somebody typed does not.
        assert example.prompt_token_ids.count(run[1].eos_token_id) == 3


def test_revisions_are_asked_for_after_a_worked_dialogue_and_all_turns(run):
    samples = Round.of(run[2], 1).samples
    revised = [sample for sample in samples if sample.revisions]
    assert revised, "random weights stop now and then"
    asked = [decoded(run, sample.revisions[0].prompt_token_ids) for sample in revised]
    for sample, prompt in zip(revised, asked, strict=True):
        before, _, after = prompt.rpartition("<bos>u:e<eos><bos>a:f<eos>")
        used = [number for number in range(4) if f"<bos>u:worked{number}<eos>" in before]
        assert 1 <= len(used) <= 3 and used == [0, 1, 2, 3][4 - len(used) :], "the first ones go"
        assert after.startswith(decoded(run, sample.draft.prompt_token_ids))
        assert after.endswith("<bos>a:")
    events = [json.loads(line) for line in (run[2] / "events.jsonl").read_text().splitlines()]
    (said,) = [event for event in events if event["event"] == "shots_cut"]
    assert said["of"] == 4 and said["requests"] >= said["cut"] >= len(revised)


def test_every_answer_of_a_demonstration_is_learnt(run):
    gold = [e for e in Round.of(run[2], 1).examples if e.origin == "gold"]
    for example in gold:
        pieces = [example.prompt_token_ids[place] for place in example.learnt_prompt_positions]
        first = decoded(run, example.prompt_token_ids).partition("+1<eos>")[0].partition("u:")[2]
        assert decoded(run, pieces) == f"{int(first) + 1}<eos>"
        assert decoded(run, example.completion_token_ids) == "4<eos>"
