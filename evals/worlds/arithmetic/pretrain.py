"""Rebuild the world's small checkpoints: tokenizer, pretraining, model card.

Resumable; torch and transformers live here only.

`ouroloop pretrain arithmetic` trains a Llama of about 1 M parameters on demonstrations of drafts,
critiques and revisions. `base` learns for a short while from text with slips, so that about half of
its samples are right: a loop can improve it and its diversity can be measured. `teacher` learns for
longer, from text almost without slips.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX

EOS = "<eos>"
VOCAB_SIZE = 512
VERDICTS = (" ok", " no")


@dataclass(frozen=True)
class PretrainConfig:
    """What makes a checkpoint; `tokens` counts prompt and completion tokens seen."""

    name: str
    tokens: int
    seed: int = 0
    learning_rate: float = 3e-3
    muon_learning_rate: float = 0.02
    warmup: float = 0.05
    batch_tokens: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 4
    num_heads: int = 4
    talk: float = 0.5
    verdict_weight: float = 4.0
    slips: float = 0.15
    initializer_range: float = 0.08


CHECKPOINTS = {
    "base": PretrainConfig("base", tokens=5_500_000, slips=0.36),
    "teacher": PretrainConfig("teacher", tokens=9_000_000, seed=1, slips=0.02),
}

Progress = Callable[[int, int], None]
"""progress(tokens seen, tokens in all)"""


def build_tokenizer(num_rows: int = 4000) -> PreTrainedTokenizerFast:
    """Byte-level BPE, one token per digit (the first of a number may carry its space).

    Lossless on any text. One for all checkpoints.
    """
    stream = _stream(CHECKPOINTS["base"], "pretrain", seed=17)
    rows = ["".join(text for text, _ in next(stream).pieces) for _ in range(num_rows)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?\d|[^A-Za-z\d ]+| +"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(rows, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=EOS, model_max_length=512
    )


def pretrain(
    config: PretrainConfig,
    out: Path,
    progress: Progress | None = None,
    reading: Callable[[world.Demonstration], world.Demonstration] | None = None,
) -> Path:
    """Train a checkpoint into `out` (replaced when it exists).

    Killed and called again, it goes on from the last saved state.

    `reading`: what the model gets to see of a demonstration; default: all.

    Returns: `out`, holding safetensors, tokenizer and pretraining.json (the config, tokens and
        seconds that it took).
    """
    torch.manual_seed(config.seed)
    work = out.with_name(out.name + ".partial")
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    model = _model(config, tokenizer)
    optimizers = _optimizers(model, config)
    state = {"steps": 0, "tokens": 0, "seconds": 0.0}
    resume = work / "state.pt"
    if resume.exists():
        saved = torch.load(resume, weights_only=True)
        if saved["config"] != asdict(config):
            raise SystemExit(
                f"{work}: begun with other settings. Delete this folder to start again, or go back"
                " to the settings it holds."
            )
        model.load_state_dict(saved["model"])
        for optimizer, its_state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        state = saved["state"]
    verdicts = torch.tensor(
        tokenizer.convert_tokens_to_ids([token.replace(" ", "\u0120") for token in VERDICTS])
    )
    batches = _batches(config, tokenizer, int(state["steps"]), reading or (lambda whole: whole))
    last_save = started = time.monotonic()
    before = state["seconds"]
    while state["tokens"] < config.tokens:
        inputs, labels = next(batches)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _schedule(
                    state["tokens"] / config.tokens, config.warmup
                )
        logits = model(input_ids=inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
        losses = torch.nn.functional.cross_entropy(
            logits, labels[:, 1:].flatten(), reduction="none"
        )
        weight = (labels[:, 1:] != -100).float() + (config.verdict_weight - 1) * torch.isin(
            labels[:, 1:], verdicts
        ).float()
        loss = (losses * weight.flatten()).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state["steps"] += 1
        state["tokens"] += inputs.numel()
        state["seconds"] = before + time.monotonic() - started
        if progress and state["steps"] % 10 == 0:
            progress(int(state["tokens"]), config.tokens)
        if time.monotonic() - last_save > 60:
            last_save = time.monotonic()
            weights = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
            }
            saved = {**weights, "state": state, "config": asdict(config)}
            torch.save(saved, work / "state.tmp")
            os.replace(work / "state.tmp", resume)
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None
    )
    model.save_pretrained(work)
    tokenizer.save_pretrained(work)
    num_parameters = sum(p.numel() for p in model.parameters())
    facts = {
        "config": asdict(config),
        "num_parameters": num_parameters,
        **state,
        "seconds": round(state["seconds"]),
    }
    (work / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n")
    resume.unlink(missing_ok=True)
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)
    return out


class Sampler:
    """Batched generation for the model card. Temperature 0 is greedy."""

    def __init__(self, checkpoint: Path, seed: int = 0) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
        self.model = LlamaForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        torch.manual_seed(seed)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def __call__(
        self, prompts: list[str], temperature: float, max_new_tokens: int = 72, batch: int = 250
    ) -> list[str]:
        """One completion per prompt, in order.

        Prompts are sorted by length inside so that padding is short.
        """
        ids = [self.tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = [""] * len(ids)
        eos = self.tokenizer.eos_token_id
        how: dict[str, Any] = (
            {"do_sample": False}
            if temperature == 0
            else {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        )
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            width = max(len(ids[i]) for i in rows)
            inputs = torch.tensor([[eos] * (width - len(ids[i])) + ids[i] for i in rows])
            mask = torch.tensor([[0] * (width - len(ids[i])) + [1] * len(ids[i]) for i in rows])
            answers = self.model.generate(
                inputs,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=eos,
                eos_token_id=eos,
                **how,
            )
            for i, answer in zip(rows, answers[:, width:].tolist(), strict=True):
                out[i] = self.tokenizer.decode(answer, skip_special_tokens=True)
        return out


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """Momentum whose matrix updates are made nearly orthogonal by five Newton-Schulz steps.

    Better than AdamW here, on one seed (LOG.md).

    In float32 and over stacks of equal matrices, because torch.optim.Muon computes in bfloat16,
    which takes ten times as long on this CPU. Source: Jordan et al. 2024, "Muon: an optimizer for
    hidden layers in neural networks".
    """

    def __init__(
        self,
        params: list[torch.nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "initial_lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: None = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for (rows, columns), parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    average = self.state[parameter].setdefault(
                        "momentum", torch.zeros_like(parameter)
                    )
                    average.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(average, group["momentum"]))
                scale = max(1.0, rows / columns) ** 0.5
                for parameter, update in zip(
                    parameters, _orthogonal(torch.stack(updates)), strict=True
                ):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(
                        update, alpha=-group["lr"] * scale
                    )


def _orthogonal(matrices_NRC: torch.Tensor) -> torch.Tensor:
    """The matrices with all their singular values near 1: quintic Newton-Schulz iteration."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.transpose(1, 2) if tall else matrices_NRC
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


def _optimizers(model: LlamaForCausalLM, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW for embeddings, head and norms; Muon for the matrices between."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (others if parameter.ndim < 2 or "embed" in name or "lm_head" in name else matrices).append(
            parameter
        )
    adamw = torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    for group in adamw.param_groups:
        group["initial_lr"] = config.learning_rate
    return [adamw, Muon(matrices, lr=config.muon_learning_rate)]


def _stream(config: PretrainConfig, split: str, seed: int) -> Iterator[world.Demonstration]:
    return world.demonstrations(split, seed, config.talk, FAMILY_MIX, config.slips)


def _batches(
    config: PretrainConfig,
    tokenizer: PreTrainedTokenizerFast,
    skip: int,
    reading: Callable[[world.Demonstration], world.Demonstration],
    window: int = 4096,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded (inputs, labels) of about `batch_tokens` tokens, rows of like length together.

    Loss where a demonstration says so.
    """
    stream, rng = _stream(config, "pretrain", config.seed), random.Random(config.seed)
    while True:
        rows = []
        for row in (next(stream) for _ in range(window)):
            rows.append(_row(reading(row), tokenizer))
        rows.sort(key=lambda r: len(r[0]))
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        for item in rows:
            if batches[-1] and (len(batches[-1]) + 1) * len(item[0]) > config.batch_tokens:
                batches.append([])
            batches[-1].append(item)
        rng.shuffle(batches)
        for batch in batches:
            if skip:
                skip -= 1
                continue
            width = max(len(ids) for ids, _ in batch)
            inputs = torch.tensor(
                [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids, _ in batch]
            )
            labels = torch.tensor([target + [-100] * (width - len(target)) for _, target in batch])
            yield inputs, labels


def _row(
    demonstration: world.Demonstration, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """(input ids, labels). Whoever writes a piece must also learn to stop.

    Where another speaks next, the stop token is the label all the same.
    """
    ids: list[int] = []
    labels: list[int] = []
    stops = False
    for index, (text, learn) in enumerate(demonstration.pieces):
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        labels += (
            piece
            if learn
            else [tokenizer.eos_token_id if stops else -100, *[-100] * (len(piece) - 1)]
        )
        stops = learn and index > 0  # nobody answers with the end of a question
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]


def _schedule(done: float, warmup: float) -> float:
    """Linear warm-up, then linear decay to a tenth."""
    return done / warmup + 0.01 if done < warmup else 1 - 0.9 * (done - warmup) / (1 - warmup)


def _model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=config.initializer_range,
            dtype="float32",
        )
    )
