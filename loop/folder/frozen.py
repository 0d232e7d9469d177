"""What a run rests on and does not hold: its problems, probe set and checkpoints, by digest.

They are frozen in the run's RUN.json when it starts and compared when it is resumed. The problems
are compared as they were read, not the bytes of their files: a task may generate them, and another
line end changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.moved import moved
from ouroloop.loop.environment import environment
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.integrity import RUN
from ouroloop.loop.folder.store import ENVIRONMENT, Store, read_json, sha256_of
from ouroloop.loop.folder.sums import unseal
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import Setting
from ouroloop.monitors.records import to_json


def inputs_of(setting: Setting) -> dict[str, str]:
    """Everything that a run rests on -> its SHA-256; in the order in which a person would look."""
    found = {
        f"checkpoint {setting.recipe.model}": sha256_of(setting.base),
        "training problems": digest_of(setting.problems),
        "probe set": digest_of(setting.probe_set.problems),
        "held-out questions": _digest(sorted(setting.probe_set.heldout)),
        "demonstrations": digest_of(setting.demonstrations),
        "held-out texts": digest_of(setting.held_out.texts),
        "audit items": digest_of(setting.held_out.audit_items),
        "principles": _digest(to_json(setting.principles)),
    }
    if setting.warm_start:
        found["demonstrations of the warm start"] = digest_of(setting.warm_start)
    for name, teacher in zip(setting.recipe.teachers, setting.teachers, strict=True):
        # What a server serves is not ours to hash.
        if isinstance(teacher, Path):
            found[f"checkpoint {name}"] = sha256_of(teacher)
    judge = setting.judge
    if judge is not None and isinstance(judge.model, Path):
        found[f"checkpoint {judge.config.model}"] = sha256_of(judge.model)
    return found


def digest_of(problems: Iterable[Problem]) -> str:
    """SHA-256 of problems as they were read, in their order."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(_text(vars(problem)).encode("utf-8"))
    return digest.hexdigest()


def refuse_other_inputs(store: Store, setting: Setting) -> None:
    """Refuse to go on with other problems or checkpoints than the run was started with.

    A recipe names files and models; what lies under a name may have been exchanged since.

    Raises:
        RunStateError: names everything that differs.
    """
    recorded = _recorded(store)
    now = inputs_of(setting)
    # What only one of them knows was added or dropped by another version.
    lines = [
        f"{name}: sha256 {recorded[name][:12]} at the start, {now[name][:12]} now"
        for name in now
        if name in recorded and recorded[name] != now[name]
    ]
    if lines:
        shown = "\n  ".join(lines)
        raise RunStateError(
            f"{store.path}: not what this run was started with:\n  {shown}\nPut the old files back"
            f" ({_where(setting)}), or start a run of another `name`."
        )


def digests_of(store: Store, setting: Setting) -> dict[Path, str]:
    """The checkpoints that the run does not hold -> SHA-256, as it was started with them."""
    recorded, recipe = _recorded(store), setting.recipe
    named = [(recipe.model, setting.base), *zip(recipe.teachers, setting.teachers, strict=True)]
    if setting.judge is not None:
        named.append((setting.judge.config.model, setting.judge.model or ""))
    return {
        place: recorded[f"checkpoint {name}"]
        for name, place in named
        if isinstance(place, Path) and f"checkpoint {name}" in recorded
    }


def _recorded(store: Store) -> dict[str, str]:
    """What RUN.json says of the inputs, by the names that they have on this host."""
    inputs: Mapping[str, str] = unseal(store.path / RUN)["inputs"]
    found = {}
    for name, digest in inputs.items():
        kind, _, place = name.partition(" ")
        found[f"{kind} {moved(place)}" if kind == "checkpoint" else name] = digest
    return found


def changed_versions(store: Store) -> list[str]:
    """What this process would use in other versions than the run's start, a line each."""
    recorded = read_json(store.path / ENVIRONMENT)
    now = environment(store.recipe, "")
    old = {"python": recorded["python"], **recorded["versions"]}
    new = {"python": now["python"], **now["versions"]}
    return [
        f"{name} is {new.get(name, 'not installed')}, the run was started with"
        f" {old.get(name, 'none')}: later rounds may differ for this alone"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _where(setting: Setting) -> str:
    """The files and folders that the recipe names."""
    recipe = setting.recipe
    task = recipe.task.model_dump(mode="json")
    named = [task[key] for key in ("path", "heldout_path") if task.get(key)]
    warm_start = recipe.warm_start
    if warm_start is not None and warm_start.path is not None:
        named.append(str(warm_start.path))
    if recipe.refine.constitution is not None:
        named.append(str(recipe.refine.constitution))
    return ", ".join([f"model: {recipe.model}", *named])


def _digest(value: Any) -> str:
    return hashlib.sha256(_text(value).encode("utf-8")).hexdigest()


def _text(value: Any) -> str:
    # Metadata is a task's own: of what JSON does not know the type alone counts, for its repr may
    # hold an address in memory.
    return json.dumps(value, sort_keys=True, default=lambda x: type(x).__name__) + "\n"
