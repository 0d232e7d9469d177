"""The whole recipe, its JSON and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ouroloop.evals.tasks import Form
from ouroloop.loop.config.base import Extension, ModelName, Section
from ouroloop.loop.config.engine import EngineConfig
from ouroloop.loop.config.judge import JudgeConfig
from ouroloop.loop.config.keep import KeepConfig
from ouroloop.loop.config.monitoring import (
    InterventionConfig,
    MonitorConfig,
    ProbeConfig,
    TrackingConfig,
)
from ouroloop.loop.config.preference import PairsConfig, StageConfig
from ouroloop.loop.config.ray import RayConfig
from ouroloop.loop.config.reasoning import ReasoningConfig
from ouroloop.loop.config.sampling import RefineConfig, SamplingConfig
from ouroloop.loop.config.selection import DatasetConfig, FilterConfig
from ouroloop.loop.config.servers import ServersConfig
from ouroloop.loop.config.storage import StorageConfig
from ouroloop.loop.config.students import StudentsConfig
from ouroloop.loop.config.supervision import SupervisionConfig
from ouroloop.loop.config.task import ArithmeticConfig, TaskConfig
from ouroloop.loop.config.warm_start import WarmStartConfig
from ouroloop.loop.recipes import secrets

DEFAULT_OBJECTIVE = Extension(use="sft")
# Sections that say where and how patiently something is done. A run may be resumed with others.
WITHOUT_EFFECT = ("ray", "storage", "students", "supervision")
# What else lies in the folder of all runs.
RESERVED = frozenset(
    {"recipes", "experiments", "studies", "tables", "weight_sync"}
    | {"mlartifacts", "mlruns", "mlflow.db", "mlflow.lock"}
)


class Recipe(Section):
    """A whole run, resolved. See `runs/recipes/` for examples."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="the run's folder; default: the recipe file's name",
    )
    model: str = Field(
        "arithmetic/base",
        description=(
            "a checkpoint's folder, a .gguf file, organisation/name[@revision] of the model hub, or"
            " a built-in name: arithmetic/base, arithmetic/teacher, arithmetic/assistant,"
            " smollm2-135m (docs/models.md)"
        ),
    )
    teachers: tuple[ModelName, ...] = Field(
        (),
        description=(
            "further checkpoints, or OpenAI-compatible servers (URL#model, or a list of servers of"
            " one model, which share the work), that draft; none: the student is its own teacher"
        ),
    )
    seed: int = Field(0, ge=0, description="of everything that is drawn at random")
    rounds: int = Field(
        6,
        ge=1,
        description="rounds of training; round 0 only measures. With `stages`: all of theirs",
    )
    init: Literal["base", "previous", "best"] = Field(
        "previous", description="what each round's training starts from"
    )
    task: TaskConfig = Field(
        ArithmeticConfig(),
        description="where problems come from and how answers to them are judged",
    )
    warm_start: WarmStartConfig | None = Field(
        None, description="fine-tune the model on demonstrations first; null: start as it is"
    )
    engine: EngineConfig = Field(EngineConfig(), description="who samples, and with what memory")
    ray: RayConfig = Field(
        RayConfig(), description="for `engine: {kind: ray}`: how its actors lie on the cluster"
    )
    students: StudentsConfig = Field(
        StudentsConfig(), description="for `engine: {kind: server}`: who samples as the student"
    )
    servers: ServersConfig = Field(
        ServersConfig(), description="how servers of teachers and judges are asked"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "what the chat template is rendered with wherever it is, e.g. {enable_thinking: false}"
        ),
    )
    reasoning: ReasoningConfig | None = Field(
        None, description="how thoughts before an answer are read; null: the model writes none"
    )
    sampling: SamplingConfig = Field(SamplingConfig(), description="how drafts are sampled")
    refine: RefineConfig = Field(RefineConfig(), description="critique and revision")
    filters: FilterConfig = Field(FilterConfig(), description="the rejection filters")
    dataset: DatasetConfig = Field(
        DatasetConfig(), description="from kept samples to a training set"
    )
    objective: Extension = Field(
        DEFAULT_OBJECTIVE,
        description="what a round trains on its samples with; sft and dpo are built in",
    )
    stages: tuple[StageConfig, ...] = Field(
        (),
        description=(
            "objectives one after the other: {rounds, objective}, and under sft or dpo what differs"
            " from those sections; none: `objective` in every round"
        ),
    )
    sft: dict[str, Any] = Field(
        default_factory=dict,
        description="settings of the trainer; for the objective sft exactly SFTConfig's names",
    )
    dpo: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "settings of the trainer for the objective dpo: exactly DPOConfig's names (beta,"
            " loss_type, loss_weights, ...)"
        ),
    )
    pairs: PairsConfig = Field(
        PairsConfig(), description="the preference pairs that the objective dpo learns from"
    )
    peft: dict[str, Any] | Literal["auto"] | None = Field(
        "auto",
        description=(
            "LoraConfig's names; null: all weights are trained; auto: LoRA of rank 16 on every"
            " linear layer where the model has more than 50 M parameters"
        ),
    )
    launcher: Literal["python", "accelerate"] = Field(
        "python", description="accelerate: train by `accelerate launch`, on several GPUs"
    )
    accelerate_config: Path | None = Field(
        None,
        description=(
            "accelerate's config file, or one that comes with Ouroloop: one_gpu, several_gpus,"
            " deepspeed_zero3, several_nodes, two_cpu_processes; default: accelerate's own"
        ),
    )
    probe: ProbeConfig = Field(ProbeConfig(), description="the probe set and its fixed sampling")
    monitors: MonitorConfig = Field(
        MonitorConfig(), description="what is tolerated before the controller acts"
    )
    judge: JudgeConfig | None = Field(
        None, description="a frozen model that judges the probe set's answers; null: none does"
    )
    interventions: InterventionConfig = Field(
        InterventionConfig(), description="what the controller may do then"
    )
    private: bool = Field(
        False,
        description=(
            "every file and folder that the run and its processes make can be read by this user"
            " alone (modes 0600 and 0700); false: as the umask says"
        ),
    )
    keep: KeepConfig = Field(KeepConfig(), description="which checkpoints outlive their rounds")
    storage: StorageConfig = Field(StorageConfig(), description="where else a run is kept")
    tracking: TrackingConfig = Field(TrackingConfig(), description="where a run is shown")
    supervision: SupervisionConfig = Field(
        SupervisionConfig(),
        description="how long a part may be without progress, and what is tried then",
    )

    @model_validator(mode="before")
    @classmethod
    def _count_rounds(cls, raw: Any) -> Any:
        """Where the stages say how many rounds there are, nobody has to say it again."""
        if not isinstance(raw, dict) or "rounds" in raw or not isinstance(raw.get("stages"), list):
            return raw
        counts = [stage.get("rounds") for stage in raw["stages"] if isinstance(stage, dict)]
        if counts and all(isinstance(count, int) for count in counts):
            return {**raw, "rounds": sum(counts)}
        return raw

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        if not self.stages:
            return self
        total = sum(stage.rounds for stage in self.stages)
        if self.rounds != total:
            raise ValueError(
                f"rounds: got {self.rounds}; expected {total}, the rounds of all `stages`. Leave"
                " `rounds` out."
            )
        if self.objective != DEFAULT_OBJECTIVE:
            raise ValueError(
                f"objective: got {self.objective.use!r} beside `stages`, which name their own."
                " Leave `objective` out."
            )
        return self

    def stage_of(self, number: int) -> int:
        """The stage of a round, counted from 1; without `stages` there is one."""
        last = 0
        for i, stage in enumerate(self.stages, start=1):
            last += stage.rounds
            if number <= last:
                return i
        return max(1, len(self.stages))

    @property
    def first_rounds(self) -> tuple[int, ...]:
        """The first round of each stage; round 1 where there are no stages."""
        return tuple(accumulate((stage.rounds for stage in self.stages[:-1]), initial=1))

    def at(self, number: int) -> Recipe:
        """The recipe as it holds in a round: with the objective and the settings of its stage."""
        if not self.stages:
            return self
        stage = self.stages[self.stage_of(number) - 1]
        changes = {
            "objective": stage.objective,
            "sft": {**self.sft, **stage.sft},
            "dpo": {**self.dpo, **stage.dpo},
        }
        return self.model_copy(update=changes)

    @property
    def asks_verdict(self) -> bool:
        """Whether a critique is asked for a verdict: by its form, or since something needs one."""
        needs_verdict = self.refine.revise_when == "rejected" or self.filters.critic
        return self.refine.form is Form.PROMPTS or needs_verdict

    @property
    def settings_section(self) -> Literal["sft", "dpo"]:
        """The section that holds the objective's settings of the trainer."""
        return "dpo" if self.objective.use == "dpo" else "sft"

    @property
    def trainer_settings(self) -> dict[str, Any]:
        """The settings of the objective's trainer."""
        return self.dpo if self.settings_section == "dpo" else self.sft

    @field_validator("name")
    @classmethod
    def _is_free(cls, value: str) -> str:
        if value.casefold() in RESERVED:
            raise ValueError(
                f"is reserved: {', '.join(sorted(RESERVED))} lie in the folder of the runs"
            )
        return value

    @property
    def lora(self) -> dict[str, Any] | None:
        """LoraConfig's names; None: all weights are trained.

        Raises:
            ValueError: `peft` is still auto; `automatic.choose` says what that becomes.
        """
        if isinstance(self.peft, str):
            raise ValueError("peft: auto depends on the model: call automatic.choose first")
        return self.peft

    def engine_config(self) -> dict[str, Any]:
        """What an engine is made with: its own section, and what it needs of the others."""
        marks = (self.reasoning.open, self.reasoning.close) if self.reasoning else ()
        return {
            **self.engine.model_dump(),
            "lora": self.lora,
            "chat_template_kwargs": self.chat_template_kwargs,
            "thought_marks": marks,
            "supervision": self.supervision.model_dump(),
            "ray": self.ray.model_dump(),
            "students": self.students.model_dump(),
            "servers": self.servers.model_dump(),
        }

    def to_json(self) -> dict[str, Any]:
        """The resolved recipe as plain JSON values, *** for its secrets."""
        return secrets.masked(self.model_dump(mode="json"))

    def apply_privacy(self) -> None:
        """Where the recipe is private: so is all that this process and its children make."""
        if self.private:
            os.umask(0o077)

    def expose_secrets(self) -> None:
        """Put the secrets into this process's environment, where its children find them."""
        secrets.expose(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON.

        Same fingerprint, same run (given the same checkpoint and library versions). What changes
        no result (`WITHOUT_EFFECT`) is left out.
        """
        rest = {k: value for k, value in self.to_json().items() if k not in WITHOUT_EFFECT}
        return hashlib.sha256(
            json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
