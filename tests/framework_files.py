"""Samples as other frameworks write them, each as its own writer's code does."""

import gzip
import json
import zipfile
from pathlib import Path

PROMPTS = {f"What is {i}+{i}?": i + i for i in range(2, 14)}


def samples(step: int):
    """(prompt, text, right) of every sample of a step; one in four is wrong, later one in two."""
    for i, (prompt, gold) in enumerate(PROMPTS.items()):
        for k in range(4):
            right = (i + k) % (4 - 2 * step) != 0
            yield prompt, f"{i + k}: the answer is {gold if right else gold + 1}.", right


def lines(path: Path, records) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def chat(prompt):
    return [{"role": "user", "content": prompt}]


def verl(folder):
    for step in (0, 1):
        records = [
            {"input": p, "output": t, "gts": "4", "score": 1.0 if r else 0.0, "step": step}
            for p, t, r in samples(step)
        ]
        lines(folder / f"{step}.jsonl", records)
    return [folder]


def openrlhf(folder):
    return [
        lines(
            folder / f"round{step}.jsonl",
            [{"input": p, "output": t, "reward": float(r)} for p, t, r in samples(step)],
        )
        for step in (0, 1)
    ]


def nemo(folder):
    # Every column of a batch of one is a list of one.
    for step in (0, 1):
        records = [
            {"content": [[p, t]], "rewards": [float(r)], "input_lengths": [9], "idx": i}
            for i, (p, t, r) in enumerate(samples(step))
        ]
        lines(folder / f"train_data_step{step}.jsonl", records)
    return [folder]


def swift(folder):
    # One record a step, a list in each column, the step as a text.
    records = []
    for step in (0, 1):
        rows = list(samples(step))
        records.append(
            {
                "step": [str(step)] * len(rows),
                "prompt": [p for p, _, _ in rows],
                "completion": [t for _, t, _ in rows],
                "MathAccuracy": [float(r) for _, _, r in rows],
                "advantages": [0.0] * len(rows),
            }
        )
    path = lines(folder / "completions.jsonl", records)
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return [packed]


def trl(folder):
    import pandas as pd

    (folder / "completions").mkdir()
    for step in (0, 1):
        rows = list(samples(step))
        table = pd.DataFrame(
            {
                "step": [step] * len(rows),
                "prompt": [chat(p) for p, _, _ in rows],
                "completion": [[{"role": "assistant", "content": t}] for _, t, _ in rows],
                "accuracy_reward": [float(r) for _, _, r in rows],
                "advantage": [0.5] * len(rows),
            }
        )
        table.to_parquet(folder / "completions" / f"completions_{step:05d}.parquet")
    return [folder / "completions"]


def lm_eval(folder):
    out = []
    for step in (0, 1):
        records = [
            {
                "doc_id": i // 4,
                "doc": {"question": p, "answer": "#### 4"},
                "target": "4",
                "arguments": {"gen_args_0": {"arg_0": p}},
                "resps": [[t]],
                "filtered_resps": [t],
                "filter": "strict-match",
                "exact_match": float(r),
            }
            for i, (p, t, r) in enumerate(samples(step))
        ]
        out.append(lines(folder / f"samples_gsm8k_{step}.jsonl", records))
    return out


def inspect_samples(step):
    return [
        {
            "id": i // 4,
            "epoch": i % 4 + 1,
            "input": chat(p) if i % 2 else p,
            "target": "4",
            "output": {"model": "m", "choices": [{"message": {"role": "assistant", "content": t}}]}
            if i % 3
            else {"completion": t},
            "scores": {"match": {"value": "C" if r else "I", "answer": t.split()[-1]}},
        }
        for i, (p, t, r) in enumerate(samples(step))
    ]


def inspect_log(folder):
    first = folder / "log0.json"
    first.write_text(json.dumps({"version": 2, "eval": {}, "samples": inspect_samples(0)}))
    return [first, inspect_archive(folder / "log1.eval", 1)]


def inspect_archive(path, step):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for i, sample in enumerate(inspect_samples(step)):
            archive.writestr(f"samples/{i:03d}.json", json.dumps(sample))
    return path
