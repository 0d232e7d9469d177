"""From the name of an encoder in a recipe to texts as vectors, for response clusters."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ouroloop.evals import plugins
from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.extras import require
from ouroloop.loop.models.names import ENCODERS, LEXICAL, PACKAGED_ENCODERS
from ouroloop.loop.models.package import encoder_from_package
from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.responses import Encoder, Pretrained


def encoder_of(name: str) -> Encoder:
    """The encoder that a recipe or `--clusters` names; fetched if need be, its weights not loaded.

    Raises:
        CheckpointError: there is none of that name, or it cannot be had here; with the remedy.
    """
    if name == LEXICAL:
        return Lexical()
    require("run", f"encoder {name}")
    if name in PACKAGED_ENCODERS:
        return _pretrained(name, encoder_from_package(name))
    folder = Path(name)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").exists():
        hint = plugins.nearest(folder.name, ENCODERS)
        raise CheckpointError(
            f"encoder {name}: expected {', '.join(ENCODERS)}, or the folder of a sentence encoder"
            f" with config.json and weights as .safetensors. {hint}"
        )
    # The weights name it, not the path: frozen clusters mean nothing beside another encoder.
    digest = hashlib.sha256()
    for path in weights:
        with path.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return _pretrained(f"{folder.name}-{digest.hexdigest()[:12]}", folder)


def _pretrained(name: str, folder: Path) -> Pretrained:
    # torch and transformers are imported here, once somebody has asked for such an encoder.
    from ouroloop.loop.engines.sentence_local import SentenceEncoder

    return Pretrained(name, SentenceEncoder(folder))
