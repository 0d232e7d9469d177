"""On an NVIDIA GPU: in float32 it says what the CPU says.

And every recipe for Hugging Face checkpoints runs through in bfloat16.

The checkpoints are made here, Qwen2 models of 10 and 33 million parameters with a tokenizer and a
chat template of their own, fitted to solutions and critiques of some training problems: on those,
drafts are right. Sampling is plain transformers', so that vLLM need not be installed.
"""

import asyncio
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_data import GSM8K
from scripted_world import BY_QUESTION

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from openai_server import Server, serving

from ouroloop.evals.problem_files import read_gsm8k, read_problems
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.__main__ import main
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.experiments import loading
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train
from ouroloop.loop.records import Request, Sampling
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.stages.prompts import CHAT, render
from ouroloop.loop.views.reader import read_run

PUBLISHED = [p.name for p in loading.available() if Path(f"runs/recipes/{p.name}_hf.yaml").exists()]
KNOWN, UNKNOWN = 48, 24
"""Training problems that the models are fitted to, and held-out ones."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(600)]
needs_data = pytest.mark.skipif(
    not GSM8K.is_dir(), reason=f"real data not found in {GSM8K.parent}: set OUROLOOP_DATA"
)


def test_sampling_says_what_the_cpu_says(tmp_path, monkeypatch):
    problems = ArithmeticTask().problems("heldout")[:200]
    requests = [
        Request(p.id, f"{p.question}\nA:\n", Sampling(max_tokens=80), seed)
        for seed, p in enumerate(problems)
    ]

    async def sampled():
        engine = ProcessEngine(
            {
                "kind": "transformers",
                "max_model_len": 192,
                "max_num_seqs": 256,
                "weight_sync_check": False,
            },
            tmp_path / "engine.log",
        )
        try:
            await engine.load(resolve_model("arithmetic/base"))
            return await asyncio.gather(*(engine.complete(request) for request in requests))
        finally:
            await engine.close()

    on_gpu = asyncio.run(sampled())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    on_cpu = asyncio.run(sampled())
    same = [(a, b) for a, b in zip(on_gpu, on_cpu, strict=True) if a.token_ids == b.token_ids]
    assert len(same) >= 0.98 * len(requests), "a rare draw may fall on the other side of a rounding"
    assert (
        max(abs(x - y) for a, b in same for x, y in zip(a.logprobs, b.logprobs, strict=True)) < 1e-3
    )


def test_training_in_float32_has_the_cpus_losses(tmp_path, monkeypatch):
    from ouroloop.loop.engines.transformers_local import load_codec

    base = resolve_model("arithmetic/base")
    codec, rows = load_codec(check_checkpoint(base)), []
    for item in list(BY_QUESTION.values())[:64]:
        prompt, text = (
            f"{item.question}\nA:\n",
            world.demonstrate(item, None if item.family in world.SKILLS else "column"),
        )
        rows.append(
            {
                "prompt_token_ids": codec.prompt_ids(prompt),
                "completion_token_ids": codec.completion_ids(prompt, text),
                "origin": "kept",
            }
        )

    def losses(folder):
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
        sft = {"learning_rate": 5e-4, "num_train_epochs": 3, "per_device_train_batch_size": 32}
        job = TrainingJob(
            base,
            folder / "examples.parquet",
            folder / "checkpoint",
            folder / "train.log",
            settings=sft,
            max_length=192,
        )
        return [at["loss"] for at in train(job, folder, lambda *_: None)["loss"]]

    on_gpu = losses(tmp_path / "gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert losses(tmp_path / "cpu") == pytest.approx(on_gpu, rel=0.02, abs=2e-3)


@pytest.mark.parametrize("reference", ["start", "baseline"])
def test_preference_training_in_float32_has_the_cpus_losses(tmp_path, monkeypatch, reference):
    from ouroloop.loop.engines.transformers_local import load_codec

    base, other = resolve_model("arithmetic/base"), resolve_model("arithmetic/teacher")
    codec, rows = load_codec(check_checkpoint(base)), []
    for item in [p for p in BY_QUESTION.values() if p.family == "sum2"][:64]:
        prompt, text = f"{item.question}\nA:\n", world.demonstrate(item, "column")
        rows.append(
            {
                "prompt_token_ids": codec.prompt_ids(prompt),
                "chosen_token_ids": codec.completion_ids(prompt, text),
                "rejected_token_ids": codec.completion_ids(prompt, f"{text}7"),
                "origin": "gold",
            }
        )

    def losses(folder):
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / "pairs.parquet")
        job = TrainingJob(
            base,
            folder / "pairs.parquet",
            folder / "checkpoint",
            folder / "train.log",
            settings={"learning_rate": 1e-4, "per_device_train_batch_size": 16},
            max_length=192,
            baseline=other,
            objective="dpo",
            objective_options={"reference": reference},
        )
        return [at["loss"] for at in train(job, folder, lambda *_: None)["loss"]]

    on_gpu = losses(tmp_path / "gpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert losses(tmp_path / "cpu") == pytest.approx(on_gpu, rel=0.02, abs=2e-3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as OUROLOOP_DATA: the same names as the recipes', few rows."""
    root = tmp_path_factory.mktemp("data")
    for name, count in (("train_first_1000", KNOWN), ("test_first_660", UNKNOWN)):
        lines = (GSM8K / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        split = "train" if "train" in name else "heldout"
        plain = [
            {"question": p.question, "answer": p.answer, "solution": p.solution}
            for p in read(GSM8K / f"{name}.jsonl")[:count]
        ]
        tables = {
            f"gsm8k/{name}": [json.loads(line) for line in lines],
            f"families/{split}": [
                {**row, "family": "gsm8k" if i % 2 else "general"} for i, row in enumerate(plain)
            ],
            f"constitutional/{split}": [
                {**row, "family": "red_team" if i % 2 else "helpful"} for i, row in enumerate(plain)
            ],
        }
        for path, rows in tables.items():
            file = root / f"{path}.jsonl"
            file.parent.mkdir(exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


def read(path):
    return read_problems(path, read_gsm8k)


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    """(student, teacher): checkpoint folders of two sizes and one tokenizer."""
    root, known = (
        tmp_path_factory.mktemp("checkpoints"),
        read(data / "gsm8k" / "train_first_1000.jsonl"),
    )
    return [
        fitted(root / name, known, hidden, layers)
        for name, hidden, layers in (("student", 320, 6), ("teacher", 512, 8))
    ]


def fitted(folder, problems, hidden, layers):
    """A checkpoint fitted to draft, approve and revise the problems' solutions."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    from ouroloop.loop.engines.transformers_local import load_codec

    solutions = {p.id: (p.solution or "").replace("####", "answer") for p in problems}
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(
        [text for p in problems for text in (p.question, solutions[p.id])], trainer
    )
    start = folder / "random"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=special[0],
        eos_token=special[2],
        additional_special_tokens=special[1:2],
        chat_template=CHATML,
    ).save_pretrained(start)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(start)

    codec, rows = load_codec(check_checkpoint(start)), []
    for p in problems:
        texts = {
            CHAT.draft: solutions[p.id],
            CHAT.critique: "Each step is right.\nverdict right",
            CHAT.revise: solutions[p.id],
        }
        for template, text in texts.items():
            prompt = render(
                CHAT,
                template,
                question=p.question,
                draft=solutions[p.id],
                critique="Each step is right.\nverdict right",
            )
            ids = codec.prompt_ids(prompt), codec.completion_ids(prompt, text)
            rows.append(
                {"prompt_token_ids": ids[0], "completion_token_ids": ids[1], "origin": "kept"}
            )
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    sft = {"learning_rate": 1e-3, "num_train_epochs": 30, "per_device_train_batch_size": 16}
    job = TrainingJob(
        start,
        folder / "examples.parquet",
        folder / "fitted",
        folder / "train.log",
        settings=sft,
        dtype="bfloat16",
        max_length=2048,
    )
    assert train(job, folder, lambda *_: None)["loss"][-1]["loss"] < 0.3
    return folder / "fitted"


def settings(keys):
    return [part for key, value in keys.items() for part in ("--set", f"{key}={json.dumps(value)}")]


@needs_data
@pytest.mark.parametrize("name", [*PUBLISHED, "gsm8k"])
def test_a_recipe_for_checkpoints_runs_through(name, models, data, tmp_path, monkeypatch):
    student, teacher = map(str, models)
    monkeypatch.setenv("OUROLOOP_DATA", str(data))
    path = Path("runs/recipes") / (f"{name}_hf.yaml" if name in PUBLISHED else f"{name}.yaml")
    text = path.read_text(encoding="utf-8")
    keys = {
        "model": student,
        "rounds": 2,
        "engine.kind": "transformers",
        "engine.dtype": "bfloat16",
        "tracking.mlflow": False,
        "sampling.problems_per_round": KNOWN,
        "sampling.samples_per_problem": 4,
        "sampling.max_tokens": 200,
        "probe.problems": 12,
        "probe.family_problems": 6,
        "probe.samples": 4,
        "probe.baseline_samples": 4,
        "probe.pass_at": 4,
        "probe.majority": 4,
    }
    solutions = {
        p.question: p.solution.replace("####", "answer")
        for p in read(data / "gsm8k" / "train_first_1000.jsonl")
    }
    server = Server(
        lambda body: (solutions[body["messages"][-1]["content"].split("\n\nEnd with")[0]], "stop")
    )
    with serving(server) as url:
        if "\nteachers:" in text:
            keys["teachers"] = [f"{url}#teacher" if "http://" in text else teacher]
        code = main(["run", str(path), "--runs", str(tmp_path), *settings(keys)])
    run = read_run(tmp_path / path.stem)
    assert code == 0 and [r.number for r in run.rounds] == [0, 1, 2] and run.state == "finished"
    for found in run.rounds[1:]:
        assert (
            found.train["status"] == "trained"
            and found.train["num_steps"] > 0
            and found.train["num_examples"] > KNOWN / 2
        )
        assert found.train["sft_config"]["bf16"] and not found.train["sft_config"]["use_cpu"]
        assert (
            read_json(
                tmp_path
                / path.stem
                / "rounds"
                / f"{found.number:03d}"
                / "checkpoint"
                / "weight_sync.json"
            )["dtype"]
            == "bfloat16"
        )
