"""Which answers are alike: response clusters, learned on round 0 and then frozen."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ouroloop.evals.tasks import Capability, Task
from ouroloop.loop.config import ClusterConfig
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.folder.storage import write_text
from ouroloop.loop.models.encoders import encoder_of
from ouroloop.loop.records import Problem
from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.responses import Encoder, ResponseClusters

_log = logging.getLogger(__name__)
Pairs = Sequence[tuple[Problem, str]]


@dataclass
class Responses:
    """The run's response clusters (`ouroloop.monitors.strategies.responses`).

    Fitted on samples of round 0's model for the whole probe set, all families, which are drawn for
    this alone, and kept in the run folder.

    Attributes:
        encoder: texts to vectors.
        seen: what of a text is compared; a thought may be hidden.
        samples: of each problem of the probe set, drawn for the fit alone.
        path: where what was learned is kept.
        learned_: what was learned; None before round 0 was measured.
    """

    encoder: Encoder = field(default_factory=Lexical)
    seen: Callable[[str], str] = str
    samples: int = 16
    path: Path | None = None
    learned_: ResponseClusters | None = None

    def keep_in(self, path: Path) -> None:
        """Where what is learned is kept; read back when it is there already.

        Raises:
            RunStateError: the file is damaged, or of another encoder.
        """
        self.path = path
        if not path.exists():
            return
        pretrained = None if isinstance(self.encoder, Lexical) else self.encoder
        try:
            frozen = path.read_text(encoding="utf-8")
            self.learned_ = ResponseClusters.from_json(frozen, pretrained)
        except (ValueError, KeyError, TypeError) as error:
            raise RunStateError(
                f"{path}: cannot be read ({error}); expected the response clusters that round 0"
                " froze. Restore the file, or start a new run."
            ) from error

    def learn(self, pairs: Pairs) -> None:
        """Fit once, on round 0's samples, right and wrong ones alike. A second call is ignored."""
        # Frozen after round 0: labels that move would read as a collapse, or hide one.
        if self.learned_ is not None:
            return
        clusters = ResponseClusters(self.encoder)
        try:
            texts = [self.seen(text) for _, text in pairs]
            clusters.fit(texts, [problem.id for problem, _ in pairs])
        except ValueError as error:
            # A model that answers nothing is data. Without clusters, nothing is labelled.
            _log.warning("response clusters: %s", error)
            return
        self.learned_ = clusters
        # Atomically: a resumed run must label as the run before it did, or learn anew.
        if self.path is not None:
            write_text(self.path, clusters.to_json())

    def labels(self, pairs: Pairs) -> list[str | None]:
        """Each text's cluster; None where it cannot be read, or nothing was learned."""
        if self.learned_ is None:
            return [None] * len(pairs)
        texts = [self.seen(text) for _, text in pairs]
        return self.learned_.labels(texts, [problem.id for problem, _ in pairs])


def labels(responses: Responses | None, pairs: Pairs) -> list[str | None]:
    """The labels of a run that may have no response clusters."""
    return [None] * len(pairs) if responses is None else responses.labels(pairs)


def responses_of(
    config: ClusterConfig,
    task: Task,
    problems: Sequence[Problem],
    seen: Callable[[str], str] = str,
    gold: bool = True,
) -> Responses | None:
    """What the recipe asks for; None where it wants no clusters.

    Args:
        config: `monitors.clusters`.
        task: may score texts without a right answer.
        problems: of the probe set.
        seen: see `Responses`.
        gold: false: nobody may see which texts are right, so none counts as scored.

    Raises:
        CheckpointError: the encoder cannot be had.
    """
    # A few problems with answers, such as helpful prompts beside others, do not score the rest.
    is_scored = Capability.UNAIDED in task.capabilities
    is_scored |= all(problem.answer is not None for problem in problems)
    if config.when == "never" or (config.when == "unscored" and is_scored and gold):
        return None
    return Responses(encoder_of(config.encoder), seen, config.samples)
