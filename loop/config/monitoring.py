"""What is measured every round, what is tolerated, and what is done about it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from ouroloop.loop.config.base import Extension, Section
from ouroloop.loop.config.clusters import ClusterConfig


class ProbeConfig(Section):
    """The probe set and its fixed sampling."""

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
    draws: int = Field(
        1,
        ge=1,
        description=(
            "draws of the probe set in a round at most: further ones, of `samples` each, only while"
            " the evidence is near a limit"
        ),
    )
    temperature: float = Field(
        1.0, ge=0.01, le=2, description="of the probe's samples, the same in every round"
    )
    pass_at: int = Field(4, ge=1, description="k of pass@k")
    majority: int = Field(8, ge=1, description="k of maj@k (self-consistency, 2203.11171)")
    critiques: int = Field(
        120, ge=0, description="probe samples that the critic judges, for its calibration"
    )
    texts: int = Field(
        64,
        ge=0,
        description=(
            "demonstrations kept out of training and scored token by token; at most half of the"
            " reserve"
        ),
    )
    traces: int = Field(
        4,
        ge=0,
        description=(
            "round 0's answers to each problem that every round scores token by token, dealt out"
            " over its strategies (right answers) or response clusters; 0 = off"
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

    @property
    def num_baseline_samples(self) -> int:
        """Samples per problem in a baseline round."""
        return self.baseline_samples or 4 * self.samples


class MonitorConfig(Section):
    """What is tolerated against round 0 before the controller acts.

    Losses are absolute unless `_share` says relative.
    """

    guard: bool = Field(
        True, description="false: decisions are recorded but not carried out (the unguarded arm)"
    )
    gold: bool = Field(
        True,
        description=(
            "false: the guard does not see which answers are right, as if there were no gold"
            " answers; they are still shown"
        ),
    )
    # Both rates are for the whole run: all rounds and all guarded quantities share them.
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
    # Tolerances, one per guarded quantity. What a probe set can see of them in how many rounds is
    # what `ouroloop plan` computes.
    accuracy_loss: float = Field(
        0.01, ge=0, le=1, description="pass@1, and pass@k of all problems and of the tail slice"
    )
    diversity_loss_share: float = Field(
        0.10, ge=0, le=1, description="of round 0's distinct-correct pairs and ways per problem"
    )
    rare_loss_share: float = Field(0.25, ge=0, le=1, description="of round 0's rare-strategy mass")
    overconfidence_gain: float = Field(
        0.05, ge=0, le=1, description="of majority votes: confidence minus accuracy"
    )
    shortcut_gain: float = Field(
        0.01, ge=0, le=1, description="share of the most repeated wrong answer over all problems"
    )
    baselines: tuple[int, ...] = Field(
        (0, 1),
        description=(
            "rounds, fixed in advance, that later ones are compared with; probed with"
            " `probe.baseline_samples`. 0 belongs to them"
        ),
    )
    texts_since: int = Field(
        0,
        ge=0,
        description=(
            "first baseline round whose wording is guarded (clusters, openings, entropy, length);"
            " before it texts are meant to change, as by a constitution, of all families or of"
            " `refine.families`; the others' wording is guarded from round 0 on, too"
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
    # Of text that nobody scored; see docs/decisions/017.
    alive_loss_share: float = Field(
        0.50,
        ge=0,
        le=1,
        description="of a strategy (without gold: response cluster) that held 5 % at round 0",
    )
    apart_loss_share: float = Field(
        0.10, ge=0, le=1, description="of round 0's pairs in different clusters, and of clusters"
    )
    canned_gain: float = Field(
        0.10,
        ge=0,
        le=1,
        description="share of the three response clusters, openings or texts that grew most",
    )
    open_loss_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="of round 0's token entropy, of its own samples and along real texts",
    )
    answered_loss: float = Field(
        0.02, ge=0, le=1, description="share of samples that are neither cut by length nor empty"
    )
    length_loss: float = Field(
        0.10, ge=0, le=1, description="share of samples within the middle 95 % of round 0's lengths"
    )
    approved_loss: float = Field(
        0.05, ge=0, le=1, description="share that a frozen judge approves of, each criterion apart"
    )
    budget: float = Field(
        0.20,
        ge=0,
        lt=1,
        description="share of the run's sampled tokens that further draws may use (`probe.draws`)",
    )
    min_yield: float = Field(
        0.02, ge=0, le=1, description="kept samples per sample, below which supply has failed"
    )

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
    clusters: ClusterConfig = Field(
        ClusterConfig(), description="which answers count as alike where nobody scores them"
    )
    metrics: tuple[Extension, ...] = Field(
        (),
        description=(
            "metrics of your own (entry points: ouroloop.metrics), read every round beside the"
            " built-in ones"
        ),
    )
    guarded: tuple[Extension, ...] = Field(
        (),
        description=(
            "guarded quantities beside the default ones: retained (what `probe.traces` shows), or"
            " your own (entry points: ouroloop.guarded): their losses are evidence for WATCH and"
            " HALT"
        ),
    )

    @field_validator("baselines")
    @classmethod
    def _from_round_0(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or list(value) != sorted(set(value)):
            raise ValueError(
                "baselines must be rounds in ascending order, beginning with 0, e.g. [0, 1, 4]"
            )
        return value

    @model_validator(mode="after")
    def _a_baseline(self) -> MonitorConfig:
        if self.texts_since not in self.baselines:
            raise ValueError(
                f"monitors.texts_since: {self.texts_since} is none of monitors.baselines"
                f" {list(self.baselines)}; name one of them, or add it there"
            )
        return self


class InterventionConfig(Section):
    """What the controller may do when the monitors call.

    `loop/stages/remedy.py` says which failure gets which remedy.
    """

    replay_fraction: float = Field(
        0.30,
        ge=0,
        lt=1,
        description="replay fraction after the first call, at least",
    )
    replay_fraction_max: float = Field(0.60, ge=0, lt=1, description="replay fraction, at most")
    demonstrations: float = Field(
        0.5,
        ge=0,
        le=1,
        description=("share of demonstrations in what is replayed after a call; the rest refills"),
    )
    temperature: float = Field(
        1.0, ge=0, le=2, description="against sharpening: drafts are sampled at least at this"
    )
    per_strategy: float | None = Field(
        0.40,
        gt=0,
        le=1,
        description=(
            "against sharpening: share of the kept samples per strategy at most; none where nobody"
            " scores and one strategy of round 0's model has more"
        ),
    )
    per_cluster: float = Field(
        0.20,
        gt=0,
        le=1,
        description="against canned responses: the same per cluster, or round 0's largest if more",
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
            "against drift and sharpening: earlier checkpoints that draft too (best, then round 0;"
            " of text that nobody scores and no name tells apart round 0 first)"
        ),
    )
    blend: float = Field(
        0.3,
        ge=0,
        lt=1,
        description=(
            "where no other remedy changes anything: weight of the baseline round's parameters in"
            " the next start (WiSE-FT); 0: never"
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
    """MLflow, and other trackers. Each may fail without hurting the run."""

    mlflow: bool = Field(True, description="record every committed round in MLflow")
    uri: str | None = Field(None, description="default: sqlite in the folder of all runs")
    experiment: str = Field("ouroloop", description="MLflow's experiment")
    table_rows: int = Field(64, ge=0, description="samples in a round's table")
    traces: int = Field(
        48, ge=0, description="samples of a round as MLflow traces, draft to verdict; 0: none"
    )
    trackers: tuple[Extension, ...] = Field(
        (),
        description=(
            "wandb, trackio, command (a line for the shell at each event), with `options`:"
            " docs/trackers.md; and trackers of your own (entry points: ouroloop.trackers)"
        ),
    )
