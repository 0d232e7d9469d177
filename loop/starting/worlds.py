"""A world's small checkpoints, made again: `ouroloop pretrain`."""

from __future__ import annotations

from functools import partial
from pathlib import Path


def pretrain(which: str, out: Path | None = None) -> int:
    """Train the checkpoints of the arithmetic world and write their cards; the exit code.

    Args:
        which: base, teacher, or both.
        out: where they are written; None: where the built-in ones lie.
    """
    from ouroloop.evals.worlds.arithmetic import card, pretrain
    from ouroloop.loop.views.progress import LiveProgress

    folder = out or Path(pretrain.__file__).parent
    wanted = ["base", "teacher"] if which == "both" else [which]
    for name in wanted:
        with LiveProgress() as progress:
            path = pretrain.pretrain(
                pretrain.CHECKPOINTS[name],
                folder / name,
                partial(progress, "pretraining", note=name),
            )
            card.write_card(path, partial(progress, "measuring", note=name))
        print(path / "README.md")
    return 0
