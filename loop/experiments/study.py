"""What a study is: arms, each a recipe for the loop, run over seeds and measured alike."""

from __future__ import annotations

import fcntl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.experiments import rounds

Keys = Mapping[str, Any]
Rows = list[dict[str, Any]]

# Arm and seed.
Run = tuple[str, int]

# arm -> seed -> the rows that were kept of its run.
Results = Mapping[str, Mapping[int, Sequence[Mapping[str, Any]]]]

# For a small model on one core.
#
# Plain transformers draws as vLLM does (tests/engines/test_real_engines.py), with less work per
# token.
SMALL_ENGINE: dict[str, Any] = {"kind": "transformers", "max_num_seqs": 512}


@dataclass(frozen=True)
class Study:
    """Arms over seeds.

    Everything that an arm may see is in its recipe, so that `ouroloop run` does the same.

    Attributes:
        name: of the study; its runs lie in a folder of that name.
        base: recipe keys that all arms share.
        arms: arm -> the keys in which it differs. A `model`, a teacher or a path may be `@arm` (the
            last checkpoint of another arm's run of the same seed) or `$thing` (made once, see
            `made`). An arm's own `seed` is added to the run's.
        made: thing -> what makes it in a folder and returns its path; called again it finds what is
            there.
        measure: run folder -> the rows to keep of it, flat and small; written as CSV.
        extra: what is sampled beyond the loop before `measure` reads, given the run folder and an
            engine (resumable: it may find its own files).
        quick: keys that `--quick` changes in every arm.
        quick_arms: the arms that `--quick` runs (None: all).
        further: arms that run only when they are named: what a finding was looked into with, beyond
            the time of the full run.
    """

    name: str
    base: Keys
    arms: Mapping[str, Keys]
    made: Mapping[str, Callable[[Path], Path]] = field(default_factory=dict)
    measure: Callable[[Path], Rows] = rounds.table
    extra: Callable[[Path, Engine], Awaitable[None]] | None = None
    quick: Keys = field(default_factory=dict)
    quick_arms: tuple[str, ...] | None = None
    further: tuple[str, ...] = ()

    def keys(self, arm: str, seed: int, quick: bool = False) -> dict[str, Any]:
        """The recipe of one run as the keys of a recipe file, references as they stand."""
        merged = merge(self.base, self.arms[arm])
        if quick:
            merged = merge(merged, self.quick)
        return {**merged, "name": f"{arm}-{seed}", "seed": seed + int(merged.get("seed", 0))}

    def default_arms(self, quick: bool = False) -> list[str]:
        """What runs when no arm is named.

        All but the further ones, or with `quick` those that suffice to see the effect.
        """
        return list(
            (self.quick_arms if quick else None)
            or (arm for arm in self.arms if arm not in self.further)
        )

    def needs(self, arm: str) -> tuple[str, ...]:
        """The arms whose checkpoints this one refers to."""
        return tuple(
            dict.fromkeys(text[1:] for text in _texts(self.keys(arm, 0)) if text.startswith("@"))
        )

    def refers(self, arm: str) -> bool:
        """Whether its recipe holds another arm's checkpoint, or a thing that is made."""
        made = {f"${name}" for name in self.made}
        return any(text[:1] == "@" or text in made for text in _texts(self.keys(arm, 0)))

    def in_order(self, arms: Sequence[str]) -> list[str]:
        """These arms and those that they need, each after what it needs."""
        out: list[str] = []

        def add(arm: str) -> None:
            for needed in self.needs(arm):
                add(needed)
            if arm not in out:
                out.append(arm)

        for arm in arms:
            add(arm)
        return out

    def recipe(self, arm: str, seed: int, runs: Path, quick: bool = False) -> dict[str, Any]:
        """The recipe with every reference resolved, its things made.

        Raises:
            RunStateError: an arm that is referred to has not been run.
        """

        # References may stand anywhere in a recipe: a model, a teacher, a path of a task.
        def resolved(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {key: resolved(v) for key, v in value.items()}
            if isinstance(value, list | tuple):
                return [resolved(v) for v in value]
            if isinstance(value, str) and value.startswith("@"):
                return str(last_checkpoint(runs / f"{value[1:]}-{seed}"))
            # Other texts that begin with $ are environment variables, not ours.
            if isinstance(value, str) and value[:1] == "$" and value[1:] in self.made:
                with _alone(runs / "made" / value[1:]) as folder:
                    return str(self.made[value[1:]](folder))
            return value

        out: dict[str, Any] = resolved(self.keys(arm, seed, quick))
        return out


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder, while no other worker makes the same thing in it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def arm_of(run: Path) -> str:
    """The arm whose run lies in this folder."""
    return run.name.rpartition("-")[0]


def seed_of(run: Path) -> str:
    """The seed of the run in this folder, as its name has it."""
    return run.name.rpartition("-")[2]


def last_checkpoint(run: Path) -> Path:
    """The checkpoint that a run ended with.

    Raises:
        RunStateError: the run has none.
    """
    # A round that trained nothing has no checkpoint: the last one that is there counts.
    found = sorted(run.glob("rounds/*/checkpoint"))
    if not found:
        raise RunStateError(
            f"{run}: no checkpoint here; the arm that this one starts from must be run first."
        )
    return found[-1]


def merge(base: Keys, changes: Keys) -> dict[str, Any]:
    """`base` with `changes`, section by section."""
    out = dict(base)
    for key, value in changes.items():
        out[key] = (
            merge(out[key], value)
            if isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
            else value
        )
    return out


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value
