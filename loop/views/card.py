"""A model card made of a run, and the checkpoint's way to a hub.

The card holds the run's own numbers and sentences: what was trained on what, what the guard saw and
did, and what was not measured. Nothing in it is written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from ouroloop.loop.errors import UserError
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import RoundData, RunData
from ouroloop.monitors.decision.reasons import why
from ouroloop.monitors.names import Action

CARD = "README.md"
TAGS = ["self-distillation", "ouroloop"]


@dataclass(frozen=True)
class Release:
    """What would be published.

    Attributes:
        folder: the checkpoint.
        card: its model card.
    """

    folder: Path
    card: str

    @property
    def files(self) -> list[tuple[str, int]]:
        """(name, bytes) of the checkpoint's files; a card that it has is replaced."""
        found = (p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != CARD)
        return [(str(p.relative_to(self.folder)), p.stat().st_size) for p in found]

    def push(self, to: str, private: bool) -> str:
        """Upload to `org/name` of the hub, and return the address of the commit.

        Raises:
            UserError: the hub refuses, or does not answer.
        """
        from httpx import HTTPError
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        hub = HfApi()
        try:
            hub.create_repo(to, private=private, exist_ok=True)
            # The card first: weights shall stand nowhere without what is known of them.
            hub.upload_file(path_or_fileobj=self.card.encode(), path_in_repo=CARD, repo_id=to)
            found = hub.upload_folder(repo_id=to, folder_path=self.folder, ignore_patterns=[CARD])
        except (HfHubHTTPError, HFValidationError, HTTPError, OSError) as error:
            raise UserError(
                f"publish --to {to}: the hub refused or did not answer ({error}). Log in with"
                " `hf auth login`, or look with --dry-run at what would be sent."
            ) from None
        return str(found)


def check_target(to: str) -> None:
    """Refuse a name that no hub would take: a dry run has to say so, too.

    Raises:
        UserError: it is not `org/name`.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(to)
    except HFValidationError as error:
        raise UserError(
            f"publish --to {to}: expected ORG/NAME, such as me/model. {error}"
        ) from None


def release(run: RunData, number: int | None = None) -> Release:
    """The checkpoint of a round with its card.

    Args:
        run: the run.
        number: of the round; None: the best.

    Raises:
        UserError: no such round, or it trained nothing.
    """
    wanted = run.best_round if number is None else number
    round = run.round(wanted)
    folder = run.checkpoint(wanted)
    if round is None or round.number == 0 or folder is None or not folder.is_dir():
        trained = [str(r.number) for r in run.rounds if r.train.get("status") == "trained"]
        if not trained:
            raise UserError(f"publish {run.path}: no round of this run has trained a checkpoint.")
        what = f"round {wanted} has no checkpoint of its own"
        if number is None and wanted == 0:
            what = "the best round is 0, the starting model"
        raise UserError(
            f"publish {run.path}: {what}; expected --round with one of those that trained:"
            f" {', '.join(trained)}."
        )
    return Release(folder, card(run, round))


def card(run: RunData, round: RoundData) -> str:
    """The model card of a round's checkpoint, as Markdown."""
    about = {
        "base_model": run.recipe.get("model"),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": TAGS,
    }
    recipe = yaml.safe_dump(dict(run.recipe), sort_keys=False, allow_unicode=True).strip()
    parts = [
        f"---\n{yaml.safe_dump(about, sort_keys=False).strip()}\n---",
        f"# {run.name}, round {round.number}",
        f"Trained from `{run.recipe.get('model')}` on texts that it wrote itself, in rounds of"
        " draft, critique, revision, rejection filter and training, by Ouroloop.",
        "## What happened",
        *sentences(run),
        _verdict(run, round),
        rounds_table(run, "\n\n"),
        "## What to keep in mind",
        *_limits(run),
        "## Recipe",
        f"```yaml\n{recipe}\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(run: RunData, round: RoundData) -> str:
    if round.action == Action.CONTINUE:
        return f"The decision rule accepted round {round.number}."
    reasons = "; ".join(why(round.decided))
    return f"**After round {round.number} the decision rule called for {round.action}**: {reasons}."


def _limits(run: RunData) -> list[str]:
    lines = [f"* One run with one seed ({run.recipe.get('seed')})."]
    if not run.guarded:
        lines.append("* The guard was off: decisions were written down and not carried out.")
    last = run.rounds[-1]
    # Of the last round: what was missing at first may have been measured since.
    gaps = dict.fromkeys(gap["name"] for gap in last.decision.get("unmeasured", []))
    if gaps:
        lines.append(f"* Not guarded, for want of what they need: {', '.join(gaps)}.")
    lines.append(
        "* Every number is measured on held-out problems of the run's own task; nothing here says"
        " how the model does elsewhere."
    )
    return ["\n".join(lines)]
