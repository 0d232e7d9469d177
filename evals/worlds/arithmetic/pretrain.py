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
from ouroloop.evals.worlds.arithmetic.pretrain_muon import optimizers_of
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX

EOS = "<eos>"
VOCAB_SIZE = 512
VERDICTS = (" ok", " no")
# Seconds between saved states: what a kill costs at most.
SAVE_SECONDS = 60


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

# progress(tokens seen, tokens in all)
Progress = Callable[[int, int], None]


def build_tokenizer(num_rows: int = 4000) -> PreTrainedTokenizerFast:
    """Byte-level BPE, one token per digit (the first of a number may carry its space).

    Lossless on any text. One for all checkpoints.
    """
    stream = _stream(CHECKPOINTS["base"], "pretrain", seed=17)
    rows = ["".join(text for text, _ in next(stream).pieces) for _ in range(num_rows)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # One digit a token: carries and place values are then visible to the model.
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


@dataclass
class Work:
    """A checkpoint on its way: model, optimizers, and the counts that a state file holds."""

    config: PretrainConfig
    folder: Path
    model: LlamaForCausalLM
    optimizers: list[torch.optim.Optimizer]
    state: dict[str, Any]

    def load(self) -> None:
        """Go on from the last saved state, if there is one.

        Raises:
            SystemExit: it was begun with other settings.
        """
        if not self._file.exists():
            return
        saved = torch.load(self._file, weights_only=True)
        if saved["config"] != asdict(self.config):
            raise SystemExit(
                f"{self.folder}: begun with other settings. Delete this folder to start again, or"
                " go back to the settings it holds."
            )
        self.model.load_state_dict(saved["model"])
        for optimizer, its_state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.state = saved["state"]

    def save(self) -> None:
        """Write the state, whole or not at all: a kill in between leaves the one before."""
        saved = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "state": self.state,
            "config": asdict(self.config),
        }
        torch.save(saved, self.folder / "state.tmp")
        os.replace(self.folder / "state.tmp", self._file)

    def step(self, inputs: torch.Tensor, labels: torch.Tensor, verdicts: torch.Tensor) -> None:
        """One update on a batch. verdicts: ids whose loss counts `verdict_weight` times.

        A verdict is one token of a critique's dozens: without its weight the critic learns to write
        critiques, not to judge.
        """
        pace = _schedule(self.state["tokens"] / self.config.tokens, self.config.warmup)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * pace
        logits = self.model(input_ids=inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
        targets = labels[:, 1:]
        losses = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="none")
        is_verdict = torch.isin(targets, verdicts).float()
        weight = (targets != -100).float() + (self.config.verdict_weight - 1) * is_verdict
        loss = (losses * weight.flatten()).sum() / weight.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state["steps"] += 1
        self.state["tokens"] += inputs.numel()

    def finish(self, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
        """Write the checkpoint and let it appear at `out`, in the place of an older one."""
        self.model.generation_config.update(
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
        self.model.save_pretrained(self.folder)
        tokenizer.save_pretrained(self.folder)
        facts = {
            "config": asdict(self.config),
            "num_parameters": sum(p.numel() for p in self.model.parameters()),
            **self.state,
            "seconds": round(self.state["seconds"]),
        }
        (self.folder / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n")
        self._file.unlink(missing_ok=True)
        if out.exists():
            shutil.rmtree(out)
        self.folder.rename(out)

    @property
    def _file(self) -> Path:
        return self.folder / "state.pt"


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
    folder = out.with_name(out.name + ".partial")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    model = _model(config, tokenizer)
    optimizers = optimizers_of(model, config.learning_rate, config.muon_learning_rate)
    work = Work(config, folder, model, optimizers, {"steps": 0, "tokens": 0, "seconds": 0.0})
    work.load()
    # A byte-level vocabulary writes a leading space as U+0120.
    spellings = [token.replace(" ", "\u0120") for token in VERDICTS]
    verdicts = torch.tensor(tokenizer.convert_tokens_to_ids(spellings))
    # Batches are drawn from a fixed stream: those already learnt from are drawn again and skipped.
    num_done = int(work.state["steps"])
    batches = _batches(config, tokenizer, num_done, reading or (lambda whole: whole))
    last_save = started = time.monotonic()
    before = work.state["seconds"]
    while work.state["tokens"] < config.tokens:
        work.step(*next(batches), verdicts)
        work.state["seconds"] = before + time.monotonic() - started
        if progress and work.state["steps"] % 10 == 0:
            progress(int(work.state["tokens"]), config.tokens)
        if time.monotonic() - last_save > SAVE_SECONDS:
            last_save = time.monotonic()
            work.save()
    work.finish(tokenizer, out)
    return out


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
        # Sorted within a window for little padding, then shuffled by batch, so that the order of
        # lengths teaches nothing.
        rows.sort(key=lambda r: len(r[0]))
        batches: list[list[tuple[list[int], list[int]]]] = [[]]
        for item in rows:
            if batches[-1] and (len(batches[-1]) + 1) * len(item[0]) > config.batch_tokens:
                batches.append([])
            batches[-1].append(item)
        rng.shuffle(batches)
        for batch in batches:
            # Resuming: tokenised again and dropped, so that the stream stands where it stood.
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
    """(input ids, labels).

    The writer of a piece must also learn to stop: the stop token is the label at its end, even
    where the next input is the first token of another writer's piece.
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
    # Never 0: the first step would be wasted.
    if done < warmup:
        return done / warmup + 0.01
    return 1 - 0.9 * (done - warmup) / (1 - warmup)


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
