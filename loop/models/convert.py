"""From a GGUF file to a checkpoint's folder: `python -m ouroloop.loop.models.convert GGUF FOLDER`.

The child's side of `gguf_files.convert`; it alone imports torch. transformers turns the quantised
blocks back into float32. What it leaves wrong is put right here: the stop token, which it reads
from another field than llama.cpp writes it to, and the mark "quantised", under which nothing can
be saved.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop.errors import CheckpointError, OuroloopError
from ouroloop.loop.objectives.child import report, watch_parent

# Text that any tokenizer of words or parts of words writes in far fewer tokens than characters.
ORDINARY = "The capital of France is Paris, and the children walked to the river."
# A vocabulary of so many tokens is one of words or parts of words, not of characters.
MIN_WORDS = 2_000


@dataclass(frozen=True)
class Metadata:
    """What the file says of itself.

    stored: name of the type that its matrices have, as torch spells it; bfloat16 for quantised
    ones: their blocks of 4 to 8 bits carry fewer digits than bfloat16 keeps, so that float32 would
    double the files and add none. tokens: the vocabulary; empty without a tokenizer. stops: ids
    that end a text, the usual one first; pad: the token that fills up a batch.
    """

    stored: str
    tokens: tuple[str, ...]
    stops: tuple[int, ...]
    pad: str | None


def main(arguments: list[str]) -> int:
    """Convert; a failure is reported to the parent in one sentence, its traceback to the log."""
    watch_parent()
    gguf, folder = (Path(argument) for argument in arguments)
    try:
        convert(gguf, folder)
    except OuroloopError as error:
        report(error=type(error).__name__, message=str(error))
        return error.exit_code
    # Whatever transformers cannot read ends as one of its many kinds of error.
    except Exception as error:
        traceback.print_exc()
        message = (
            f"{gguf}: transformers cannot convert this GGUF ({type(error).__name__}: {error})."
            " Name the model's own safetensors folder instead."
        )
        report(error=CheckpointError.__name__, message=message)
        return CheckpointError.exit_code
    return 0


def convert(gguf: Path, folder: Path) -> None:
    """Write safetensors, config and tokenizer of a GGUF into `folder`.

    Raises:
        CheckpointError: no GGUF, no tokenizer, or one that does not fit the weights.
    """
    metadata = look(gguf)
    beside = gguf.with_name("tokenizer.json").exists()
    if not beside:
        _refuse_without_tokenizer(gguf, metadata)
    # Only now: what can be refused is refused within a second.
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = _tokenizer_beside(gguf) if beside else _tokenizer_inside(gguf, metadata)
    _refuse_single_characters(gguf, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    num_rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > num_rows:
        raise CheckpointError(
            f"{gguf}: the tokenizer has {len(tokenizer):,} tokens, the model {num_rows:,}. Put the"
            " tokenizer.json that belongs to this model beside it."
        )
    # Back in float32 it is quantised no more; as long as it says so, it cannot be saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    stops = [tokenizer.eos_token_id, *(i for i in metadata.stops if i != tokenizer.eos_token_id)]
    for config in (model.config, model.generation_config):
        config.eos_token_id = stops if len(stops) > 1 else stops[0]
        config.pad_token_id = tokenizer.pad_token_id
    model.to(getattr(torch, metadata.stored)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def look(gguf: Path) -> Metadata:
    """Read a GGUF's fields.

    Raises:
        CheckpointError: it is none, or is cut off.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(gguf)
    except (ValueError, IndexError, OSError) as error:
        raise CheckpointError(
            f"{gguf}: not a readable GGUF file ({error}). Fetch it again; a download may have been"
            " cut off."
        ) from error

    def field(name: str) -> Any:
        found = reader.get_field(f"tokenizer.ggml.{name}")
        return None if found is None else found.contents()

    tokens = tuple(field("tokens") or ())
    stops = [field(name) for name in ("eos_token_id", "eot_token_id")]
    pad_id = field("padding_token_id")
    pad = tokens[pad_id] if pad_id is not None and pad_id < len(tokens) else None
    kinds = {tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1}
    return Metadata(
        stored=_stored(kinds),
        tokens=tokens,
        stops=tuple(dict.fromkeys(i for i in stops if i is not None and i < len(tokens))),
        pad=pad,
    )


def _stored(kinds: set[str]) -> str:
    """The type to store matrices of these GGUF types in: their own where they are not quantised."""
    if kinds <= {"F32"}:
        return "float32"
    if kinds <= {"F16", "F32"}:
        return "float16"
    return "bfloat16"


def _refuse_without_tokenizer(gguf: Path, metadata: Metadata) -> None:
    """Refuse a GGUF with half a tokenizer or none, where no other lies beside it."""
    missing = ""
    if not metadata.tokens:
        missing = "no tokenizer in this GGUF"
    elif not metadata.stops:
        # transformers would fill one in by the kind of tokenizer, right or wrong.
        missing = "no stop token in this GGUF, so no answer could ever end"
    if missing:
        raise CheckpointError(
            f"{gguf}: {missing}. Put the model's tokenizer.json and tokenizer_config.json beside"
            " it, or name the model's safetensors folder instead."
        )


def _tokenizer_beside(gguf: Path) -> Any:
    """The tokenizer in the GGUF's folder, as its own files describe it."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(gguf.parent)
    if tokenizer.eos_token_id is None:
        raise CheckpointError(
            f"{gguf.parent}: the tokenizer beside {gguf.name} has no stop token. Put the model's"
            " tokenizer_config.json there too; it names the eos_token."
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _tokenizer_inside(gguf: Path, metadata: Metadata) -> Any:
    """The tokenizer rebuilt from the file's fields."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file's own statement counts: transformers read <|im_start|> as SmolLM2's stop token.
    tokenizer.eos_token = metadata.tokens[metadata.stops[0]]
    tokenizer.pad_token = metadata.pad or tokenizer.eos_token
    return tokenizer


def _refuse_single_characters(gguf: Path, tokenizer: Any) -> None:
    """Some vocabularies (Gemma's) are rebuilt without their merges: every character is a token."""
    num_tokens = len(tokenizer(ORDINARY, add_special_tokens=False)["input_ids"])
    if len(tokenizer) >= MIN_WORDS and num_tokens > 0.8 * len(ORDINARY):
        raise CheckpointError(
            f"{gguf}: the tokenizer that transformers rebuilds from this GGUF splits text into"
            " single characters, which the model does not understand. Put the model's"
            " tokenizer.json and tokenizer_config.json beside it."
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
