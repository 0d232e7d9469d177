"""The word problems' published files become those that recipes read."""

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools/word_problems.py"
PROBLEMS = (
    ("Seven red apples and two green ones.", "How many?", "9 (apples)", "7+2=9"),
    # A trailing blank, a remainder, an unknown, a wrong formula, and what is no one number.
    ("Nine bags of three, two loose.", "How many?", "29", "9*3+2=29 "),
    ("Ribbon.", "How many pieces?", "51 (pieces of ribbon)", "3730/73=51 r7"),
    ("Cards.", "How many?", "1,037 (cards)", "x:cards; 20+x=1057"),
    ("Coins.", "How many?", "5", "2+2=5"),
    ("Nine bags of three, two loose.", "How many?", "30", "30=30"),
    ("Time.", "When?", "3:30 p.m.", "3+0=3"),
    ("Names.", "Who?", "Mrs. Hilt", "2*1=2"),
)


def test_published_files_become_json_lines_with_solutions_where_the_formula_is_one(tmp_path):
    rows = "".join(
        f'<Problem ID="n{i}" Grade="1"><Body>{body}</Body><Question> {question} </Question>'
        f"<Answer>{answer}</Answer><Formula>{formula}</Formula></Problem>"
        for i, (body, question, answer, formula) in enumerate(PROBLEMS)
    )
    xml, far = tmp_path / "ASDiv.xml", tmp_path / "SVAMP.json"
    xml.write_text(f"<Corpus><ProblemSet>{rows}</ProblemSet></Corpus>", encoding="utf-8")
    row = {"ID": "c1", "Body": "Dan had 3", "Question": "How many left?", "Answer": 51.0}
    far.write_text(json.dumps([row, row | {"ID": "c2", "Body": "Is it?"}]), encoding="utf-8")
    said = subprocess.run(
        [sys.executable, TOOL, tmp_path / "data", "--asdiv", xml, "--svamp", far],
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "data/wordproblems"
    # So few are all held out.
    found = {row["id"]: row for row in read(folder / "asdiv_heldout.jsonl")}
    assert read(folder / "asdiv_train.jsonl") == []
    assert {id: row["answer"] for id, row in found.items()} == {
        "n0": "9",
        "n1": "29",
        "n2": "51",
        "n3": "1037",
        "n4": "5",
    }
    assert {id: row["solution"] for id, row in found.items() if "solution" in row} == {
        "n0": "7+2 = 9. The answer is 9.",
        "n1": "9*3+2 = 29. The answer is 29.",
    }
    assert found["n0"]["question"] == "Seven red apples and two green ones. How many?"
    far_rows = {row["id"]: row for row in read(folder / "svamp_first_500.jsonl")}
    assert far_rows["c1"]["question"] == "Dan had 3. How many left?"
    assert (
        far_rows["c2"]["question"] == "Is it? How many left?" and far_rows["c1"]["answer"] == "51"
    )
    assert "asdiv_heldout.jsonl: 5 problems, 2 with a solution" in said.stdout


def test_rows_and_conversations_are_taken_out_of_what_is_published(tmp_path):
    gsm8k, paper = tmp_path / "gsm8k", tmp_path / "paper"
    for folder in (gsm8k, paper / "evals", paper / "prompts"):
        folder.mkdir(parents=True)
    row = json.dumps({"question": "A line\u2028within?", "answer": "#### 2"}, ensure_ascii=False)
    for name in ("train", "test", "example_model_solutions"):
        (gsm8k / f"{name}.jsonl").write_text(f"{row}\n" * 1100, encoding="utf-8")
    for name in ("CritiqueRevision", "RLMadison"):
        for kind in ("Instructions", "FewShotPrompts"):
            (paper / "prompts" / f"{name}{kind}.json").write_text('{"as": "published"}')
    talks = (
        "Human: How?\n\nAssistant: So.\n\nHuman: And then?\n\nAssistant: So: yes.",
        "Human: How?\n\nAssistant: No.",
        "Human: How?\n\nAssistant: Well.",
    )
    asked = [
        f"Here is a conversation between a human and an assistant:\n\n{talk}\n\n"
        "This conversation was harmful. What description best characterizes it?"
        for talk in talks
    ]
    lines = "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in asked)
    (paper / "evals" / "HarmfulnessClassification.jsonl").write_text(lines)
    subprocess.run(
        [sys.executable, TOOL, tmp_path / "data", "--gsm8k", gsm8k, "--constitutional", paper],
        check=True,
    )
    made = tmp_path / "data" / "gsm8k"
    assert (made / "train_first_1000.jsonl").read_text(encoding="utf-8") == f"{row}\n" * 1000
    for name in ("test_first_660.jsonl", "model_solutions_first_660.jsonl"):
        assert (made / name).read_text(encoding="utf-8") == f"{row}\n" * 660
    folder = tmp_path / "data" / "constitutional"
    assert len(list(folder.glob("*.json"))) == 4
    # The last answer is left out, and so is a conversation that is then as one before.
    first, second = read(folder / "red_team_prompts.jsonl")
    assert first == {
        "id": "hc000",
        "messages": [
            {"role": "user", "content": "How?"},
            {"role": "assistant", "content": "So."},
            {"role": "user", "content": "And then?"},
        ],
        "family": "red_team",
    }
    assert second["id"] == "hc001" and len(second["messages"]) == 1


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
