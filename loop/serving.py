"""Which checkpoint the engine serves, and the check that it really does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ouroloop.loop.config import EngineConfig, Recipe, ServersConfig, SupervisionConfig
from ouroloop.loop.engines import remote
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.pacing import Limits
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.folder.journal import JournalledEngine
from ouroloop.loop.objectives import training


@dataclass
class Serving:
    """The engine and the checkpoint that it serves.

    Attributes:
        engine: the only one that samples in this run.
        config: the recipe's `engine` section.
        proofs: where the weight-sync prompts of checkpoints that bring none are kept; many runs of
            one base need but one.
        report: progress (stage, done, total).
        proven: told of each checkpoint that is served, and how that was proven.
        checkpoint: what is served now; None before the first load and after `free_memory`.
        chat_template_kwargs: what a server's chat template is rendered with.
        servers: the recipe's `servers` section.
        supervision: the recipe's time limits.
    """

    engine: JournalledEngine
    config: EngineConfig
    proofs: Path
    report: Callable[[str, int, int], None]
    proven: Callable[[Path, str], None]
    checkpoint: Path | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    servers: ServersConfig = field(default_factory=ServersConfig)
    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)

    @classmethod
    def of(
        cls,
        engine: JournalledEngine,
        recipe: Recipe,
        proofs: Path,
        report: Callable[[str, int, int], None],
        proven: Callable[[Path, str], None],
    ) -> Serving:
        """As the recipe says."""
        return cls(
            engine,
            recipe.engine,
            proofs,
            report,
            proven,
            chat_template_kwargs=recipe.chat_template_kwargs,
            servers=recipe.servers,
            supervision=recipe.supervision,
        )

    async def serve(self, checkpoint: Path) -> None:
        """Swap the engine's weights, unless they are these, and prove that they are served.

        Raises:
            StaleWeightsError: the weight-sync check found other weights.
            CheckpointError: the checkpoint cannot be used.
        """
        if checkpoint == self.checkpoint:
            return
        # Loading takes from a second to minutes: it is shown, and never done twice in a row.
        self.report("loading", 0, 1)
        expected = None
        if self.config.weight_sync_check:
            limits = TimeLimits(self.supervision.start_s, self.supervision.trainer_silence_s)
            dtype = self.config.dtype
            expected = training.weight_sync_of(checkpoint, self.proofs, dtype, limits)
        # Only after the check has passed is the checkpoint the one that is served.
        proof = await self.engine.load(checkpoint, expected)
        self.checkpoint = checkpoint
        if proof:
            self.proven(checkpoint, proof)
        self.report("loading", 1, 1)

    async def serve_any(self, checkpoint: Path) -> None:
        """Serve `checkpoint` if nothing is served: enough for what only needs the tokenizer."""
        if self.checkpoint is None:
            await self.serve(checkpoint)

    @asynccontextmanager
    async def asking(self, model: Path | str, student: Path) -> AsyncIterator[Engine]:
        """An engine that answers as `model`: a checkpoint's folder or a server's address.

        A server's answers are tokenised as the student's, whom they will train.
        """
        if isinstance(model, Path):
            await self.serve(model)
            yield self.engine
            return
        await self.serve(student)
        # The student is served beside it, for its tokenizer. What may be dropped is for
        # the stages to say.
        limits = Limits(**self.servers.model_dump(exclude={"max_dropped"}))
        server = remote.RemoteEngine(model, self.engine, limits, self.chat_template_kwargs)
        try:
            yield self.engine.beside(server, model)
        finally:
            await server.close()

    async def free_memory(self) -> None:
        """Close the engine where the recipe starts a fresh one for every checkpoint.

        Its memory is the trainer's from now on.
        """
        # Where weights are reloaded in place, the engine keeps its memory beside the trainer.
        if self.config.swap == "respawn":
            await self.engine.close()
            self.checkpoint = None
