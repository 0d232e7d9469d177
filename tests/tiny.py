"""A tiny random Llama with a character tokenizer, written as a checkpoint folder.

What engine and SFT tests run on.
"""

from __future__ import annotations

import string
from pathlib import Path

CHARACTERS = string.digits + string.ascii_letters + " +-=.,:?!\n"
# A chat template that marks turns by control tokens, and may open a thought.
CHATML = (
    "{% for turn in messages %}<bos>{{ turn['role'] }}\n{{ turn['content'] }}<eos>\n{% endfor %}"
    "{% if add_generation_prompt %}<bos>assistant\n"
    "{% if thinking is defined and thinking %}<think>{% endif %}{% endif %}"
)


def ids(text: str) -> list[int]:
    """The token ids of a text, without any of its ends."""
    return [4 + CHARACTERS.index(character) for character in text]


def save_tiny_tokenizer(folder: Path, stop_token: str | None = "<eos>") -> None:
    """One token per character; <pad> = 0, <eos> = 1, <bos> = 2.

    `stop_token` None leaves the stop token undefined.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        token: i for i, token in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", *CHARACTERS])
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token=stop_token,
    )
    fast.save_pretrained(folder)


def save_tiny_llama(
    folder: Path,
    *,
    tied: bool = False,
    seed: int = 0,
    hidden: int = 64,
    layers: int = 2,
    spread: float = 0.2,
) -> Path:
    """Write a random Llama (0.1 M parameters by default) with its tokenizer to `folder`.

    `spread` is the standard deviation of the weights: large enough that greedy continuations differ
    clearly between seeds.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    heads = 4
    config = LlamaConfig(
        vocab_size=4 + len(CHARACTERS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=max(32, hidden // heads),
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=spread,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    save_tiny_tokenizer(folder)
    return folder


def save_tiny_adapter(
    base: Path, folder: Path, *, seed: int = 0, rank: int = 4, spread: float = 0.3
) -> Path:
    """Write a LoRA adapter of `base` with random weights to `folder` and return it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32")
    modules = ["q_proj", "v_proj", "o_proj", "down_proj"]
    adapted = get_peft_model(
        model,
        LoraConfig(r=rank, lora_alpha=4 * rank, target_modules=modules, task_type="CAUSAL_LM"),
    )
    for name, weights in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=spread)
    adapted.save_pretrained(folder)
    return folder
