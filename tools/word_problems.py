"""The files that recipes, studies and tests on real data read, from the published ones.

Where each is published, under which licence, and what reads it: docs/real-data.md. ASDiv (Miao et
al. 2021, arXiv 2106.15772, CC BY-NC 4.0) is published as `ASDiv.xml`, SVAMP (Patel et al. 2021,
arXiv 2103.07191, MIT) as `SVAMP.json`, each in its authors' repository. Both were written by
people; nothing of them is in this one. From the top of the repository:

    python tools/word_problems.py DATA --asdiv ASDiv.xml --svamp SVAMP.json
    OUROLOOP_DATA=DATA make demo-real

Of GSM8K the first rows are taken as they are (`--gsm8k FOLDER`, its folder `data`); of the
Constitutional AI paper's repository (`--constitutional FOLDER`, a checkout) the principles and
dialogues as they are, and the conversations that its evaluation of harmfulness holds, without their
last answer.

Kept are problems whose answer is one number. A formula that gives it by the four operations becomes
a solution, "7+2 = 9. The answer is 9."; others have none. The order is drawn, and 400 of ASDiv's
problems are held out: by another draw than the one behind the committed results, whose tables
another split gives within their intervals only.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ouroloop.evals.grading import grade
from ouroloop.evals.steps import check

HELD_OUT = 400
FAR = 500
"""Problems of SVAMP, which no model practises."""
ROWS = {
    "train.jsonl": ("train_first_1000.jsonl", 1000),
    "test.jsonl": ("test_first_660.jsonl", 660),
    "example_model_solutions.jsonl": ("model_solutions_first_660.jsonl", 660),
}
"""GSM8K's published file -> the name of its first rows, and how many."""
PROMPTS = (
    "CritiqueRevisionInstructions.json",
    "CritiqueRevisionFewShotPrompts.json",
    "RLMadisonInstructions.json",
    "RLMadisonFewShotPrompts.json",
)
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}
NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)(?:\s*\(.*\))?", re.DOTALL)
FORMULA = re.compile(r"([\d.+\-*/() ]+)=\s*([\d.]+)\s*")


def asdiv(path: Path) -> Iterator[dict[str, Any]]:
    """ASDiv's problems in the published order."""
    for problem in ET.parse(path).iter("Problem"):
        text = {part.tag: (part.text or "").strip() for part in problem}
        number = NUMBER.fullmatch(text["Answer"])
        if not number:
            continue
        answer = number[1].replace(",", "")
        found = solution(text["Formula"], answer)
        yield {
            "id": problem.attrib["ID"],
            "question": f"{text['Body']} {text['Question']}",
            "answer": answer,
            "family": "asdiv",
            **({"solution": found} if found else {}),
        }


def solution(formula: str, answer: str) -> str | None:
    """The formula as a solution; None where it is no plain calculation of the answer."""
    parts = FORMULA.fullmatch(formula)
    if not parts:
        return None
    text = f"{parts[1].strip()} = {answer}. The answer is {answer}."
    return text if check(text).valid and grade(answer, text).correct else None


def svamp(path: Path) -> Iterator[dict[str, Any]]:
    """SVAMP's problems in the published order."""
    for row in json.loads(path.read_text(encoding="utf-8")):
        body = row["Body"].strip()
        # Many bodies lack their full stop.
        stop = "" if body.endswith((".", "?", "!", ",")) else "."
        question = f"{body}{stop} {row['Question'].strip()}"
        answer = f"{row['Answer']:g}"
        yield {"id": row["ID"], "question": question, "answer": answer, "family": "svamp"}


def red_team(path: Path) -> Iterator[dict[str, Any]]:
    """The conversations of HarmfulnessClassification.jsonl that end in a user's turn, each once."""
    seen = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").strip().split("\n")):
        asked = json.loads(line)["prompt"].partition(":\n\n")[2]
        parts = TURN.split(asked.partition("\n\nThis conversation was harmful")[0])[1:]
        turns = [
            {"role": ROLES[who], "content": text.strip()}
            for who, text in zip(parts[::2], parts[1::2], strict=True)
        ]
        while turns and turns[-1]["role"] != "user":
            turns.pop()
        if turns and (text := json.dumps(turns)) not in seen:
            seen.add(text)
            yield {"id": f"hc{number:03d}", "messages": turns, "family": "red_team"}


def shuffled(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in a drawn order, the same every time; of equal questions the first."""
    by_question = {row["question"]: row for row in reversed(list(rows))}
    found = sorted(by_question.values(), key=lambda row: str(row["id"]))
    random.Random(0).shuffle(found)
    return found


def write(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(f"{path}: {len(rows)} problems, {sum('solution' in row for row in rows)} with a solution")


def first_rows(source: Path, target: Path, num: int) -> None:
    """The first lines of a file, as they are."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = source.read_text(encoding="utf-8").strip().split("\n")[:num]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{target}: {len(lines)} rows")


def main() -> None:
    """Convert what is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder that OUROLOOP_DATA will name")
    parser.add_argument("--asdiv", type=Path, metavar="XML", help="ASDiv.xml as published")
    parser.add_argument("--svamp", type=Path, metavar="JSON", help="SVAMP.json as published")
    parser.add_argument("--gsm8k", type=Path, metavar="FOLDER", help="train.jsonl and its others")
    parser.add_argument("--constitutional", type=Path, metavar="FOLDER", help="its repository")
    asked = parser.parse_args()
    folder = asked.data / "wordproblems"
    if asked.asdiv:
        found = shuffled(asdiv(asked.asdiv))
        write(found[HELD_OUT:], folder / "asdiv_train.jsonl")
        write(found[:HELD_OUT], folder / "asdiv_heldout.jsonl")
    if asked.svamp:
        write(shuffled(svamp(asked.svamp))[:FAR], folder / "svamp_first_500.jsonl")
    if asked.gsm8k:
        for name, (target, num) in ROWS.items():
            first_rows(asked.gsm8k / name, asked.data / "gsm8k" / target, num)
    if asked.constitutional:
        folder = asked.data / "constitutional"
        harmful = asked.constitutional / "evals" / "HarmfulnessClassification.jsonl"
        write(list(red_team(harmful)), folder / "red_team_prompts.jsonl")
        for name in PROMPTS:
            shutil.copy(asked.constitutional / "prompts" / name, folder / name)


if __name__ == "__main__":
    main()
