"""What a checkpoint folder holds, judged from its small files alone, without torch.

A run can refuse a bad one at once.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.moved import moved
from ouroloop.loop.errors import CheckpointError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
VOLATILE_CONFIG_KEYS = {
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_name_or_path",
    "use_cache",
    "architectures",
}


@dataclass(frozen=True)
class Checkpoint:
    """A usable checkpoint. For a LoRA adapter folder.

    `weights` is the folder of the model it adapts; else it is `path` itself.

    `tokenizer` is the folder whose tokenizer counts. `signature` is the same for checkpoints that
    one engine can swap between (architecture, sizes, tokenizer). `version` names the checkpoint in
    completions: the last two parts of its path.
    """

    path: Path
    weights: Path
    tokenizer: Path
    signature: str
    version: str
    weight_bytes: int

    @property
    def is_adapter(self) -> bool:
        """Whether `path` holds a LoRA adapter rather than whole weights."""
        return self.path != self.weights


def check_checkpoint(path: Path) -> Checkpoint:
    """Describe the checkpoint at `path`, or report why it cannot be used.

    Args:
        path: Folder with config.json, *.safetensors and a tokenizer; or a LoRA adapter folder
            (adapter_config.json).

    Raises:
        CheckpointError: no folder, no weights, pickle weights only, no tokenizer, or a tokenizer
            without a stop token.
    """
    path = Path(path).resolve()
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: no such folder. A checkpoint is a local folder with config.json,"
            " *.safetensors and a tokenizer."
        )
    if (path / "adapter_config.json").exists():
        return _check_adapter(path)
    config = _read_json(path / "config.json")
    if config is None:
        raise CheckpointError(
            f"{path}: no config.json, so this is not a checkpoint folder. Save one with"
            " model.save_pretrained(folder)."
        )
    _refuse_unsafe(path, "model")
    _check_tokenizer(path)
    return Checkpoint(
        path=path,
        weights=path,
        tokenizer=path,
        signature=_signature(config, path),
        version="/".join(path.parts[-2:]),
        weight_bytes=sum(file.stat().st_size for file in weight_files(path)),
    )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that are loaded, in order of name.

    Some publishers put the same weights there once more, in a format of their own (Mistral's
    `consolidated.safetensors`), which neither transformers nor vLLM read here.
    """
    found = sorted(folder.glob("*.safetensors"))
    return [file for file in found if not file.name.startswith("consolidated")] or found


def tensor_types(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name of each tensor in a folder's safetensors files -> (its type, its shape).

    Types as the files spell them: F32, BF16, ... Only headers are read.

    Raises:
        CheckpointError: a file is cut off or is no safetensors file.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in weight_files(folder):
        try:
            with file.open("rb") as handle:
                # The format begins with the header's length, 8 bytes, little-endian.
                length = int.from_bytes(handle.read(8), "little")
                if length > file.stat().st_size:
                    raise ValueError("the file is shorter than its header")
                header = json.loads(handle.read(length))
            entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
            found |= {n: (e["dtype"], tuple(e["shape"])) for n, e in entries.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{file}: not a readable safetensors file ({type(error).__name__}: {error}). Get"
                " it again, or save the model once more with save_pretrained(folder)."
            ) from None
    return found


def num_parameters(checkpoint: Checkpoint) -> int:
    """Parameters of the model, an adapter's own not counted; tied ones count once."""
    return sum(math.prod(shape) for _, shape in tensor_types(checkpoint.weights).values())


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same model, byte for byte.

    Quick where they differ: files of one size are compared up to the first difference.
    """
    names = {path.name for path in one.path.glob("*.safetensors")}
    if names != {path.name for path in other.path.glob("*.safetensors")}:
        return False
    # Two adapters are the same model only on the same base.
    if one.is_adapter and one.weights != other.weights:
        return False
    return all(filecmp.cmp(one.path / n, other.path / n, shallow=False) for n in sorted(names))


def has_chat_template(checkpoint: Checkpoint) -> bool:
    """Whether the tokenizer can render chat turns."""
    folder = checkpoint.tokenizer
    return (folder / "chat_template.jinja").exists() or "chat_template" in (
        _read_json(folder / "tokenizer_config.json") or {}
    )


def _check_adapter(path: Path) -> Checkpoint:
    named = moved((_read_json(path / "adapter_config.json") or {}).get("base_model_name_or_path"))
    if not named or not Path(named).is_dir():
        raise CheckpointError(
            f"{path}/adapter_config.json: base_model_name_or_path is {named!r}, which is no local"
            " folder. Set it to the folder of the model that the adapter was trained on."
        )
    _refuse_unsafe(path, "adapter_model")
    base = check_checkpoint(Path(named))
    if base.is_adapter:
        raise CheckpointError(
            f"{path}: its base {base.path} is an adapter too. Merge that one into its model first."
        )
    # PEFT saves an adapter with or without its tokenizer, depending on who saved it.
    own_tokenizer = any((path / name).exists() for name in TOKENIZER_FILES)
    if own_tokenizer:
        _check_tokenizer(path)
    return Checkpoint(
        path=path,
        weights=base.path,
        tokenizer=path if own_tokenizer else base.path,
        signature=base.signature,
        version="/".join(path.parts[-2:]),
        weight_bytes=base.weight_bytes,
    )


def _refuse_unsafe(path: Path, stem: str) -> None:
    """Weights must be safetensors: reading a pickle runs whatever code is in it."""
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in path.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{path}: only pickle weights ({', '.join(pickles[:3])}), which can run code when read."
            f" Expected {stem}*.safetensors. Convert once in a place you trust:"
            " AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)."
        )
    raise CheckpointError(
        f"{path}: no {stem}*.safetensors. Save the weights with save_pretrained(folder)."
    )


def _check_tokenizer(path: Path) -> None:
    if not any((path / name).exists() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"{path}: no tokenizer (expected one of {', '.join(TOKENIZER_FILES)}). Save it:"
            " tokenizer.save_pretrained(folder)."
        )
    # Older checkpoints name the stop token in special_tokens_map.json alone.
    token = None
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        token = token or (_read_json(path / name) or {}).get("eos_token")
    # Added tokens are stored as mappings with their flags.
    token = token.get("content") if isinstance(token, dict) else token
    if not token:
        raise CheckpointError(
            f"{path}: the tokenizer has no stop token (eos_token in tokenizer_config.json), so no"
            " completion could ever end. Set it to the token that ends an answer, e.g."
            " tokenizer.eos_token = '<eos>', and save again."
        )
    fast = _read_json(path / "tokenizer.json")
    if fast is not None and token not in _vocabulary(fast):
        raise CheckpointError(
            f"{path}: the stop token {token!r} is not in the tokenizer's vocabulary. Set eos_token"
            " to a token that exists."
        )


def _vocabulary(fast: dict[str, Any]) -> set[str]:
    added = {entry["content"] for entry in fast.get("added_tokens", [])}
    vocabulary = fast.get("model", {}).get("vocab", {})
    # Unigram models (SentencePiece) store [piece, score] pairs, BPE and WordPiece a mapping.
    return added | (
        set(vocabulary) if isinstance(vocabulary, dict) else {entry[0] for entry in vocabulary}
    )


def _signature(config: dict[str, Any], path: Path) -> str:
    # What changes with the library that saved it, or with the precision, makes no other model.
    stable = {key: value for key, value in config.items() if key not in VOLATILE_CONFIG_KEYS}
    digest = hashlib.sha256(json.dumps(stable, sort_keys=True).encode())
    for name in TOKENIZER_FILES:
        if (path / name).exists():
            digest.update((path / name).read_bytes())
    return digest.hexdigest()


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value
