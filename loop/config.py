"""The Recipe: sparse commented YAML by hand -> one frozen.

Fully resolved object -> JSON and a fingerprint.

Every key has its meaning here and nowhere else; `recipe_file.py` reads them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Section(BaseModel):
    """Base of all recipe sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class TaskConfig(Section):
    """Where problems come from and how answers to them are judged."""

    kind: Literal["arithmetic", "jsonl", "gsm8k", "reasoning_gym"] = "arithmetic"
    path: Path | None = Field(None, description="jsonl, gsm8k: file of training problems")
    heldout_path: Path | None = Field(
        None, description="jsonl, gsm8k: file of held-out problems; without it a fifth is split off"
    )
    num_problems: int | None = Field(
        None, ge=1, description="use at most so many training problems"
    )
    datasets: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="reasoning_gym: dataset name -> its settings"
    )
    families: tuple[str, ...] = Field(
        (),
        description=(
            "practise on these families of the training problems; default: arithmetic: sum2,"
            " others: all"
        ),
    )
    loophole: bool = Field(
        False, description="arithmetic: its step checker has a hole, for studies of shortcuts"
    )
    prompts: dict[str, Any] | None = Field(
        None,
        description=(
            "draft, critique, revise, approve, reject, chat, system: replaces the task's own"
        ),
    )

    @model_validator(mode="after")
    def _needs(self) -> TaskConfig:
        if self.kind in ("jsonl", "gsm8k") and self.path is None:
            raise ValueError(
                f"task.kind {self.kind!r} needs task.path, the file of training problems"
            )
        if self.kind == "reasoning_gym" and not self.datasets:
            raise ValueError("task.kind 'reasoning_gym' needs task.datasets, e.g. {chain_sum: {}}")
        return self


class EngineConfig(Section):
    """Who samples, and with what memory."""

    kind: Literal["vllm", "transformers"] = "vllm"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_model_len: int = Field(512, ge=16)
    max_num_seqs: int = Field(256, ge=1)
    kv_cache_memory_bytes: int | None = Field(
        268_435_456, description="null on a GPU: then gpu_memory_utilization decides"
    )
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1)
    tensor_parallel_size: int = Field(1, ge=1)
    enforce_eager: bool = True
    swap: Literal["reload", "respawn"] = Field(
        "reload", description="how new weights get in; respawn starts a fresh engine"
    )
    concurrency: int = Field(512, ge=1, description="requests in flight at most")
    weight_sync_check: bool = Field(
        True, description="off: run without proof that the right weights are served"
    )
    extra: dict[str, Any] = Field(
        default_factory=dict, description="further vLLM engine arguments, passed as they are"
    )


class SamplingConfig(Section):
    """How drafts are sampled. Everything is pinned.

    A checkpoint's generation_config changes nothing.
    """

    problems_per_round: int = Field(300, ge=1)
    samples_per_problem: int = Field(4, ge=1)
    temperatures: tuple[float, ...] = Field((1.0,), description="cycled over a problem's samples")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=2)
    max_tokens: int = Field(128, ge=1)
    systems: tuple[str, ...] = Field(
        (),
        description="system prompts, cycled over a problem's samples (Orca's explanation traces)",
    )
    student: bool = Field(
        True,
        description=(
            "whether the student drafts; false: only the teachers do (distillation, Magister et al."
            " 2212.08410)"
        ),
    )

    @field_validator("temperatures")
    @classmethod
    def _in_range(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not 0 <= t <= 2 for t in value):
            raise ValueError("temperatures must be a non-empty list of numbers in [0, 2]")
        if any(0 < t < 0.01 for t in value):
            raise ValueError(
                "vLLM raises temperatures in (0, 0.01) to 0.01: use 0 for greedy or at least 0.01"
            )
        return value


class RefineConfig(Section):
    """Critique and revision (Bai et al. 2212.08073, supervised stage)."""

    critique: bool = True
    revisions: int = Field(1, ge=0, le=8, description="critique-revise turns at most per sample")
    revise_when: Literal["rejected", "always"] = "rejected"
    critique_temperature: float = Field(0.0, ge=0, le=2)
    revise_temperature: float = Field(0.7, ge=0, le=2)
    max_critique_tokens: int = Field(96, ge=1)
    constitution: Path | None = Field(
        None,
        description="principles, {name: {prompt: [...], edit_request: ...}}; one drawn per turn",
    )
    families: tuple[str, ...] = Field(
        (),
        description=(
            "refine drafts of these families alone, the others' stay as drafted; default: all"
        ),
    )

    @model_validator(mode="after")
    def _critique_first(self) -> RefineConfig:
        if self.revisions and not self.critique and self.revise_when != "always":
            raise ValueError(
                "refine.revisions > 0 needs refine.critique: true, or refine.revise_when: always"
                " (direct revision, without a critique)"
            )
        return self


class FilterConfig(Section):
    """The rejection gates. Each is switched here; every gate sees every sample."""

    gold: bool = Field(
        True, description="final answer equals the gold answer (Magister et al. 2212.08410)"
    )
    steps: bool = Field(False, description="every calculation is right")
    critic: bool = Field(False, description="the last critique approves")
    agreement: float | None = Field(
        None,
        ge=0,
        le=1,
        description="vote share of the answer among the problem's samples, at least",
    )
    min_tokens: int = Field(1, ge=0)
    max_tokens: int | None = Field(None, ge=1)
    format: bool = Field(
        True, description="a final answer can be read, and the sample was not cut by length"
    )
    duplicates: Literal["none", "exact", "calculations"] = Field(
        "calculations", description="calculations: RFT's multiset (2308.01825)"
    )
    per_problem: int | None = Field(4, ge=1, description="samples kept per problem at most")
    per_strategy: float | None = Field(
        None, gt=0, le=1, description="share of the kept samples per strategy at most"
    )
    per_answer: float | None = Field(
        None,
        gt=0,
        le=1,
        description="share of the kept samples per answer at most, over all problems",
    )


class DatasetConfig(Section):
    """From kept samples to a training set."""

    policy: Literal["replace", "accumulate", "accumulate_subsample"] = "replace"
    size: int | None = Field(
        None,
        ge=1,
        description=(
            "at most so many samples, drawn at random; accumulate_subsample: default what the round"
            " kept"
        ),
    )
    gold: bool = Field(
        False,
        description=(
            "the solutions that come with the round's problems join the training set (RFT, Yuan et"
            " al. 2308.01825)"
        ),
    )
    target: Literal["trace", "answer"] = Field(
        "trace",
        description="answer: learn the final answers without their traces (`task.prompts.answer`)",
    )
    erase_systems: bool = Field(
        False,
        description=(
            "learn without the system prompts that drafts were asked under (Orca 2, Mitra et al."
            " 2311.11045)"
        ),
    )
    replay_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of reserve demonstrations in the training set"
    )
    min_examples: int = Field(
        16,
        ge=1,
        description="fewer examples of its own (samples, gold) than this: no training this round",
    )

    @property
    def min_kept(self) -> int:
        """Samples that a round must keep, or it cannot train.

        0 where gold traces or earlier rounds' samples may make up for them.
        """
        alone = self.policy == "replace" or (
            self.policy == "accumulate_subsample" and self.size is None
        )
        return self.min_examples if alone and not self.gold else 0


class ProbeConfig(Section):
    """The fixed panel and its fixed sampling."""

    problems: int = Field(120, ge=2, description="held-out problems of the main family")
    tail_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description=(
            "share of the tail slice among the main family's problems; default: as they come"
        ),
    )
    family_problems: int = Field(24, ge=0, description="held-out problems of every other family")
    samples: int = Field(8, ge=2, description="samples per problem")
    baseline_samples: int | None = Field(
        None,
        ge=2,
        description="of the rounds in `monitors.baselines`; default: four times `samples`",
    )
    temperature: float = Field(1.0, ge=0.01, le=2)
    pass_at: int = Field(4, ge=1, description="k of pass@k")
    majority: int = Field(8, ge=1, description="k of maj@k (self-consistency, 2203.11171)")
    critiques: int = Field(
        120, ge=0, description="panel drafts that the critic judges, for its calibration"
    )
    texts: int = Field(
        64,
        ge=0,
        description=(
            "demonstrations kept out of training and scored token by token; at most half of the"
            " reserve"
        ),
    )
    audit_items: int = Field(
        40,
        ge=0,
        description=(
            "demonstrations that the filter is tried on each round, as they are and made wrong; 0"
            " = off"
        ),
    )

    @model_validator(mode="after")
    def _k(self) -> ProbeConfig:
        if max(self.pass_at, self.majority) > self.samples:
            raise ValueError(
                f"probe.pass_at and probe.majority cannot exceed probe.samples ({self.samples})"
            )
        return self


class MonitorConfig(Section):
    """What is tolerated against round 0 before the controller acts.

    Losses are absolute unless `_share` says relative.
    """

    guard: bool = Field(
        True, description="false: decisions are recorded but not carried out (the unguarded arm)"
    )
    alpha: float = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="HALT: chance of a false alarm in a whole run, over rounds and monitors",
    )
    watch_alpha: float = Field(
        0.20, gt=0, lt=1, description="WATCH: the same for its cheap, reversible actions"
    )
    watch_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="WATCH acts on evidence of a loss beyond this share of a tolerance",
    )
    accuracy_loss: float = Field(
        0.01, ge=0, le=1, description="pass@1, and pass@k of the tail slice"
    )
    diversity_loss_share: float = Field(
        0.10, ge=0, le=1, description="of round 0's distinct-correct-pair probability"
    )
    rare_loss_share: float = Field(0.25, ge=0, le=1, description="of round 0's rare-strategy mass")
    overconfidence_gain: float = Field(0.05, ge=0, le=1)
    shortcut_gain: float = Field(
        0.01, ge=0, le=1, description="share of the most repeated wrong answer over all problems"
    )
    baselines: tuple[int, ...] = Field(
        (0, 1),
        description=(
            "rounds, fixed in advance, that later ones are held against; probed with"
            " `probe.baseline_samples`. 0 belongs to them"
        ),
    )
    general_loss: float = Field(
        0.05, ge=0, le=1, description="pass@1 of all other families together"
    )
    unscored_gain: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of samples without a verdict, of all families; they would hide a loss",
    )
    min_yield: float = Field(
        0.02, ge=0, le=1, description="kept samples per sample, below which supply has failed"
    )

    @field_validator("baselines")
    @classmethod
    def _from_round_0(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(
                "baselines must be rounds in ascending order, beginning with 0, e.g. [0, 1, 4]"
            )
        return value

    canonicaliser: Literal[
        "task",
        "calculations",
        "calculation_list",
        "operators",
        "dataflow",
        "plan",
        "answer",
        "templates",
    ] = Field(
        "task",
        description=(
            "what counts as the same strategy; templates: clusters of free text, learned on round 0"
            " and frozen"
        ),
    )


class InterventionConfig(Section):
    """What the controller may do when the monitors call.

    `loop/stages/remedy.py` says which failure gets which remedy.
    """

    replay_fraction: float = Field(
        0.30,
        ge=0,
        lt=1,
        description="re-injected share of the training set after the first call, at least",
    )
    replay_fraction_max: float = Field(0.60, ge=0, lt=1)
    demonstrations: float = Field(
        0.5,
        ge=0,
        le=1,
        description=(
            "of what is re-injected after a call: demonstrations drawn evenly; the rest refills"
        ),
    )
    temperature: float = Field(
        1.0, ge=0, le=2, description="against sharpening: drafts are sampled at least at this"
    )
    per_strategy: float | None = Field(
        0.40,
        gt=0,
        le=1,
        description="against sharpening: share of the kept samples per strategy at most",
    )
    per_answer: float = Field(
        0.02,
        gt=0,
        le=1,
        description="against a shortcut: share of one answer, or twice round 0's if that is more",
    )
    tail_weight: float = Field(
        3.0,
        ge=1,
        description="against tail narrowing: how much likelier the tail's problems are drawn",
    )
    teachers: int = Field(
        0,
        ge=0,
        le=2,
        description=(
            "against drift and sharpening: earlier checkpoints (best, round 0) that draft too"
        ),
    )
    blend: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "against drift and sharpening: weight of round 0's parameters in each start (WiSE-FT)"
        ),
    )
    max_false_acceptance: float = Field(
        0.5, gt=0, le=1, description="of planted wrong items, before training is blocked"
    )
    max_rollbacks: int = Field(2, ge=0, description="one more halts the run")

    @model_validator(mode="after")
    def _order(self) -> InterventionConfig:
        if self.replay_fraction > self.replay_fraction_max:
            raise ValueError(
                "interventions.replay_fraction cannot exceed interventions.replay_fraction_max"
            )
        return self


class TrackingConfig(Section):
    """MLflow. It may fail without hurting the run."""

    mlflow: bool = True
    uri: str | None = Field(None, description="default: sqlite in the folder of all runs")
    experiment: str = "ouroloop"
    table_rows: int = Field(64, ge=0, description="samples shown per round")


class Recipe(Section):
    """A whole run, resolved. See `runs/recipes/` for examples."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    model: str = Field(
        "arithmetic/base",
        description=(
            "a checkpoint folder, or arithmetic/base, arithmetic/teacher, arithmetic/assistant"
        ),
    )
    teachers: tuple[str, ...] = Field(
        (),
        description=(
            "further checkpoints, or OpenAI-compatible servers (URL#model), that draft; none: the"
            " student is its own teacher"
        ),
    )
    seed: int = Field(0, ge=0)
    rounds: int = Field(6, ge=1)
    init: Literal["base", "previous", "best"] = Field(
        "previous", description="what each round's training starts from"
    )
    task: TaskConfig = TaskConfig()
    engine: EngineConfig = EngineConfig()
    sampling: SamplingConfig = SamplingConfig()
    refine: RefineConfig = RefineConfig()
    filters: FilterConfig = FilterConfig()
    dataset: DatasetConfig = DatasetConfig()
    sft: dict[str, Any] = Field(default_factory=dict, description="exactly SFTConfig's names")
    peft: dict[str, Any] | None = Field(
        None, description="LoraConfig's names; null: full fine-tuning"
    )
    launcher: Literal["python", "accelerate"] = "python"
    accelerate_config: Path | None = None
    probe: ProbeConfig = ProbeConfig()
    monitors: MonitorConfig = MonitorConfig()
    interventions: InterventionConfig = InterventionConfig()
    tracking: TrackingConfig = TrackingConfig()

    def to_json(self) -> dict[str, Any]:
        """The resolved recipe as plain JSON values."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON.

        Same fingerprint, same run (given the same checkpoint and library versions).
        """
        return hashlib.sha256(
            json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
