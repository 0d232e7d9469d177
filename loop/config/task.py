"""Where problems come from: one section per kind of task, and nothing of one kind in another's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ouroloop.evals import plugins
from ouroloop.loop.config.base import Extension, Section

BUILT_IN = ("arithmetic", "jsonl", "gsm8k", "dataset", "reasoning_gym")
DEFAULT = "arithmetic"
CUSTOM = "custom"
PATH = (
    "file of training problems (.jsonl, .json, .csv, .tsv, .parquet), a folder of these, or the"
    " name of a data set on the Hugging Face hub, e.g. openai/gsm8k"
)


class TaskSection(Section):
    """What every kind of task takes."""

    families: tuple[str, ...] = Field(
        (),
        description=(
            "practise on these families of the training problems; default: arithmetic: sum2,"
            " others: all"
        ),
    )
    num_problems: int | None = Field(
        None, ge=1, description="use at most so many training problems, the first ones"
    )
    prompts: dict[str, Any] | None = Field(
        None,
        description=(
            "templates in place of the task's own: draft, critique, revise, direct, answer,"
            " approve, reject, verdict, chat, system"
        ),
    )

    def settings(self) -> dict[str, Any]:
        """What the task itself is made with: the keys of this kind alone."""
        shared = set(TaskSection.model_fields) | {"kind"}
        return {name: getattr(self, name) for name in type(self).model_fields if name not in shared}


class ArithmeticConfig(TaskSection):
    """The embedded small world, with known truth."""

    kind: Literal["arithmetic"] = Field("arithmetic", description="the embedded arithmetic world")
    loophole: bool = Field(
        False, description="its step checker has a hole, for studies of shortcuts"
    )

    def settings(self) -> dict[str, Any]:
        """Its problems are made for the families that are practised."""
        families = {"families": self.families} if self.families else {}
        return {**super().settings(), **families}


class FileTaskSection(TaskSection):
    """Problems from files."""

    # Not a Path: a name of the hub is none.
    path: str = Field(min_length=1, description=PATH)
    heldout_path: Path | None = Field(
        None, description="file of held-out problems; without it a fifth is split off"
    )
    grader: Extension = Field(
        Extension(use="final_answer"),
        description=(
            "who grades a text: final_answer (after a marker), last_number, symbolic (math-verify"
            " in a sandbox), exact (the same text), choice (one letter), code (unit tests), judge"
            " (another model), none (nothing is scored), or one of your own, which may be a"
            " function of (text, problem); see docs/grading.md"
        ),
    )

    def settings(self) -> dict[str, Any]:
        """The grader by name: the registry makes it."""
        grader = {"grader": self.grader.use, "grader_options": self.grader.options}
        return {**super().settings(), **grader}


class JsonlConfig(FileTaskSection):
    """Any JSONL of questions, optionally with answers, families and solutions."""

    kind: Literal["jsonl"] = Field(description="questions and answers in Ouroloop's own fields")


class Gsm8kConfig(FileTaskSection):
    """Files in GSM8K's format."""

    kind: Literal["gsm8k"] = Field(description="questions and worked solutions ending in #### N")


class ColumnsConfig(Section):
    """Which column holds what; default: the column of that very name, where there is one."""

    question: str | None = Field(None, description="the questions")
    answer: str | None = Field(
        None, description="the final answers, or worked solutions that end in GSM8K's #### N"
    )
    solution: str | None = Field(
        None, description="worked solutions; without a column of answers their final answers count"
    )
    messages: str | None = Field(
        None,
        description=(
            "conversations, [{role: user, content: ...}, ...]: what the last user turn asks is"
            " answered with all turns before it; an assistant turn at the end is the solution"
        ),
    )
    id: str | None = Field(None, description="unique ids; without them they are made")
    family: str | None = Field(None, description="names of the families")
    slice: str | None = Field(None, description="typical or tail")
    system: str | None = Field(None, description="system prompts, one for each question")


class SourceConfig(Section):
    """One of several files or data sets that a task takes its problems from."""

    path: str = Field(min_length=1, description="file, folder or name, as task.path")
    family: str | None = Field(
        None, min_length=1, description="the family of all its problems; default: its column family"
    )
    name: str | None = Field(None, description="the data set's configuration, e.g. main")
    split: str = Field("train", description="the split of training problems")
    heldout_path: Path | None = Field(None, description="file of held-out problems")
    heldout_split: str | None = Field(None, description="the split of held-out problems")
    heldout_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description=(
            "share that is held out, by the hash of each question, where no file or split is named;"
            " 1: only measured, never trained on"
        ),
    )
    num_problems: int | None = Field(
        None, ge=1, description="use at most so many that are not held out, the first ones"
    )
    columns: ColumnsConfig = Field(ColumnsConfig(), description="which column holds what")

    @model_validator(mode="after")
    def _one_heldout(self) -> SourceConfig:
        if self.heldout_split and self.heldout_path:
            raise ValueError("name heldout_split or heldout_path, not both")
        return self

    def settings(self) -> dict[str, Any]:
        """All keys, the columns that are named by name."""
        named = self.columns.model_dump(exclude_none=True)
        return {key: getattr(self, key) for key in type(self).model_fields} | {"columns": named}


class DatasetTaskConfig(FileTaskSection):
    """Any data set by its columns: a local file or folder, or a name of the Hugging Face hub."""

    kind: Literal["dataset"] = Field(description="any data set, by its columns")
    path: str | None = Field(  # type: ignore[assignment]
        None, min_length=1, description=f"{PATH}; or see sources"
    )
    sources: tuple[SourceConfig, ...] = Field(
        (),
        description=(
            "several files, folders or names in place of path, each with a family:"
            " [{path: red_team.jsonl, family: red_team}, {path: sums.csv, family: helpful}]"
        ),
    )
    name: str | None = Field(None, description="the data set's configuration, e.g. main")
    split: str = Field("train", description="the split of training problems")
    heldout_split: str | None = Field(
        None, description="the split of held-out problems; without it a fifth is split off"
    )
    columns: ColumnsConfig = Field(ColumnsConfig(), description="which column holds what")

    @model_validator(mode="after")
    def _one_of_each(self) -> DatasetTaskConfig:
        if self.heldout_split and self.heldout_path:
            raise ValueError("name task.heldout_split or task.heldout_path, not both")
        if bool(self.sources) == (self.path is not None):
            raise ValueError("name task.path, or several task.sources; one of the two is needed")
        of_one = ("name", "split", "heldout_path", "heldout_split", "columns")
        # Compared with the defaults, which a run's own recipe.json writes out.
        default = type(self).model_fields
        named = [key for key in of_one if getattr(self, key) != default[key].default]
        if self.sources and named:
            raise ValueError(
                f"task.{named[0]} belongs to task.path; give it to each of the sources"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """The columns that are named, by name."""
        settings = super().settings()
        if self.sources:
            sources = [source.settings() for source in self.sources]
            return {key: settings[key] for key in ("path", "grader", "grader_options")} | {
                "sources": sources
            }
        del settings["sources"]
        return {**settings, "columns": self.columns.model_dump(exclude_none=True)}


class ReasoningGymConfig(TaskSection):
    """Generated problems of reasoning-gym (extra `verify`)."""

    kind: Literal["reasoning_gym"] = Field(description="generated data sets of reasoning-gym")
    datasets: dict[str, dict[str, Any]] = Field(
        min_length=1, description="data set name -> its settings, e.g. {chain_sum: {}}"
    )


class CustomConfig(TaskSection):
    """A task of your own: `kind` names it."""

    kind: str = Field(
        description="module:Name, path/to/file.py:Name, or the name of an installed entry point",
        json_schema_extra={"not": {"enum": list(BUILT_IN)}},
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            "keyword arguments that the task is made with; strings that begin with ./, ../ or"
            " $NAME/ are paths, relative to the recipe"
        ),
    )

    @model_validator(mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and ":" not in kind and kind not in _installed():
            known = [*BUILT_IN, *_installed()]
            raise ValueError(
                f"no task is called {kind!r}. {plugins.nearest(kind, known)} One of your own is"
                " named module:Name, or path/to/file.py:Name."
            )
        return value

    def settings(self) -> dict[str, Any]:
        """Its options, and nothing of ours."""
        return dict(self.options)


def _installed() -> list[str]:
    return plugins.installed("ouroloop.tasks")


def _kind_of(value: Any) -> str:
    """Which section a mapping is: that of its `kind`; without one the arithmetic world's."""
    kind = value.get("kind", DEFAULT) if isinstance(value, dict) else getattr(value, "kind", "")
    return kind if kind in BUILT_IN else CUSTOM


TaskConfig = Annotated[
    Annotated[ArithmeticConfig, Tag("arithmetic")]
    | Annotated[JsonlConfig, Tag("jsonl")]
    | Annotated[Gsm8kConfig, Tag("gsm8k")]
    | Annotated[DatasetTaskConfig, Tag("dataset")]
    | Annotated[ReasoningGymConfig, Tag("reasoning_gym")]
    | Annotated[CustomConfig, Tag(CUSTOM)],
    Discriminator(_kind_of),
]
# Which section a kind has, by the name that pydantic puts into an error's place.
SECTIONS: dict[str, type[TaskSection]] = {
    "arithmetic": ArithmeticConfig,
    "jsonl": JsonlConfig,
    "gsm8k": Gsm8kConfig,
    "dataset": DatasetTaskConfig,
    "reasoning_gym": ReasoningGymConfig,
    CUSTOM: CustomConfig,
}
