"""Sampling from a small checkpoint without an engine, for its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


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
