"""A round's checkpoint as a model of MLflow: by reference, nothing is copied.

`mlflow.pyfunc.load_model("models:/ouroloop-NAME@champion")` loads it where its folder can be read.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

from ouroloop import __version__
from ouroloop.loop.trackers.mlflow_store import RunStore
from ouroloop.loop.trackers.points import committed_at, plain, weights_sha256
from ouroloop.loop.views.measures import BY_KEY
from ouroloop.loop.views.reader import RoundData, RunData

LOADER = "ouroloop.loop.trackers.checkpoint_model"
# What the loader reads, instead of weights.
REFERENCE = "checkpoint.json"
ABOUT = (
    "Checkpoints of the run {path}: `champion` is the best round that the decision rule accepted,"
    " `baseline` is round 0, the starting model."
)


def registered_name(run: RunData) -> str:
    """The name of a run's models in MLflow's registry."""
    return f"ouroloop-{run.name}"


def log_checkpoint(run: RunData, round: RoundData, store: RunStore, child: str) -> None:
    """A LoggedModel that names the checkpoint's place and fingerprint, and can be loaded.

    Must be called while the round's run is MLflow's active one.
    """
    import mlflow

    path, value = run.checkpoint(round.number), round.score("pass@1")[0]
    if path is None or model_of(store, child) is not None:
        return
    about = {
        "run": str(run.path),
        "round": str(round.number),
        "path": str(path),
        "sha256": weights_sha256(run, round, path),
    }
    with tempfile.TemporaryDirectory() as folder:
        # This file is all that MLflow keeps of the checkpoint.
        reference = Path(folder) / REFERENCE
        reference.write_text(json.dumps(about, indent=1), encoding="utf-8")
        # MLflow warns that there is no example to try the signature on: it would load the model.
        with warnings.catch_warnings(action="ignore"):
            model = mlflow.pyfunc.log_model(
                # MLflow refuses dots in the name of a model.
                name=f"{run.name}-round-{round.number:02d}".replace(".", "_"),
                loader_module=LOADER,
                data_path=str(reference),
                # Named, so that MLflow does not import everything to find out.
                pip_requirements=[f"ouroloop[run,mlflow]=={__version__}"],
                params=about,
                signature=_signature(run),
            )
    if value == value:  # NaN is undefined, and MLflow's charts would break on it
        mlflow.log_metric(
            plain(BY_KEY["pass@1"].of(round).id),
            value,
            timestamp=committed_at(round),
            step=round.number,
            model_id=model.model_id,
        )


def _signature(run: RunData) -> Any:
    """What `predict` may be asked for; MLflow ignores what no signature names."""
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec

    longest = int((run.recipe.get("sampling") or {}).get("max_tokens", 256))
    params = [
        ParamSpec("temperature", DataType.double, 0.0),
        ParamSpec("max_tokens", DataType.long, longest),
        ParamSpec("seed", DataType.long, 0),
    ]
    return ModelSignature(params=ParamSchema(params))


def move_aliases(run: RunData, store: RunStore) -> None:
    """`baseline` is round 0, `champion` the best round; it moves, back too.

    One registered model per run, one version per round that ever had an alias.
    """
    aliases = store.memory.known.setdefault("aliases", {})
    for alias, number in (("baseline", 0), ("champion", run.best_round)):
        child = store.memory.known["rounds"].get(str(number), {}).get("run_id")
        if not child or aliases.get(alias) == number:
            continue
        version = _version(run, store, child, int(number or 0))
        if version is None:
            continue
        store.client.set_registered_model_alias(registered_name(run), alias, version)
        aliases[alias] = number
        store.memory.save()


def _version(run: RunData, store: RunStore, child: str, number: int) -> str | None:
    """The registered version of a round, made when there is none; None without a model."""
    from mlflow.exceptions import MlflowException

    name, client, model = registered_name(run), store.client, model_of(store, child)
    if model is None:
        return None
    with contextlib.suppress(MlflowException):  # it exists already
        client.create_registered_model(name, description=ABOUT.format(path=run.path))
    for found in client.search_model_versions(f"name = '{name}' and run_id = '{child}'"):
        return str(found.version)
    made = client.create_model_version(
        name,
        source=f"models:/{model}",
        run_id=child,
        model_id=model,
        description=f"Round {number}: {run.checkpoint(number)}",
    )
    return str(made.version)


def model_of(store: RunStore, child: str) -> str | None:
    """The id of the LoggedModel of a round's run."""
    query = f"source_run_id = '{child}'"
    found = store.client.search_logged_models(
        [store.experiment], filter_string=query, max_results=1
    )
    return str(found[0].model_id) if found else None
