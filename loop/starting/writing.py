"""A first recipe as commented YAML."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ouroloop.loop.starting.settings import CRITIQUE_TOKENS, Settings
from ouroloop.loop.starting.sizes import EPOCHS, PROBE_SAMPLES, SECONDS, Size, sizes
from ouroloop.loop.starting.survey import Source, Survey

COLUMN = 32
"""Where comments begin."""
GRADERS = {
    "last_number": "reads the stated answer, else a text's last number",
    "final_answer": "reads a stated answer: The answer is X, answer X, #### X, a box",
    "symbolic": "reads a stated answer and compares expressions (math-verify)",
    "none": "the texts are not scored: there are no gold answers",
}


def recipe_text(
    name: str, model: str, source: Source, survey: Survey, settings: Settings, chat: bool
) -> str:
    """The recipe's file.

    Args:
        name: Of the run.
        model: As the user wrote it.
        source: The data, as the user named it.
        survey: What the data holds.
        settings: What was chosen from it.
        chat: Whether the model has a chat template.
    """
    lines = [
        *_head(name, model, survey, settings),
        "",
        *_task(source, survey, chat),
        "",
        *_warm_start(survey, settings),
        "",
        *_engine(settings),
        "",
        *_sampling(survey, settings),
        "",
        *_selection(survey, settings),
        "",
        *_training(settings),
        "",
        *_probe(settings),
    ]
    return "\n".join(lines) + "\n"


def _line(text: str, comment: str = "") -> str:
    return f"{text:<{COLUMN}}  # {comment}" if comment else text


def _text(value: str) -> str:
    """A text as YAML: a JSON string is one."""
    # Letters of other scripts stay readable in the file.
    return json.dumps(value, ensure_ascii=False)


def _head(name: str, model: str, survey: Survey, settings: Settings) -> Iterator[str]:
    yield f"# Written by `ouroloop init` for {survey.num_problems:,} problems."
    yield f"# `ouroloop run {name}.yaml --check` checks it; `ouroloop schema` has every key."
    largest = sizes(survey)[0]
    if settings.size != largest:
        yield f"# Small, so that two cores end it in about {SECONDS // 60} minutes. To see more:"
        now = _keys(settings.size)
        more = [f"{key}: {size}" for key, size in _keys(largest).items() if size != now[key]]
        for first in range(0, len(more), 2):
            end = "," if first + 2 < len(more) else "."
            yield f"# {', '.join(more[first : first + 2])}{end}"
    yield f"name: {_text(name)}"
    yield f"model: {_text(model)}"
    yield _line(f"rounds: {settings.size.rounds}", "of training; round 0 only measures")


def _keys(size: Size) -> dict[str, int]:
    return {
        "rounds": size.rounds,
        "sampling.problems_per_round": size.problems,
        "sampling.samples_per_problem": size.samples,
        "probe.problems": size.probe_problems,
        "probe.baseline_samples": size.baseline_samples,
    }


def _task(source: Source, survey: Survey, chat: bool) -> Iterator[str]:
    yield "task:"
    yield "  kind: dataset"
    for key, value in source.items():
        yield f"  {key}: {_text(value)}"
    if "heldout_split" not in source:
        yield "  # About a fifth is held out. Held-out problems of their own: heldout_path."
    # All columns are written out, also those that would be found: a reader sees what is used.
    columns = ", ".join(f"{name}: {_text(column)}" for name, column in survey.columns.items())
    yield f"  columns: {{{columns}}}"
    yield _line(f"  grader: {survey.grader}", GRADERS[survey.grader])
    yield "  prompts:"
    yield f"    draft: {_text(_draft(survey, chat))}"
    comment = "the model's own chat template" if chat else "the model has no chat template"
    yield _line(f"    chat: {str(chat).lower()}", comment)


def _draft(survey: Survey, chat: bool) -> str:
    """What the model is asked."""
    question = "{question}"
    # A last number needs no mark; what other graders read does.
    if survey.grader not in ("none", "last_number"):
        question += f"\n\n{survey.ending}"
    # A conversation shows by its labels who speaks; `{question}` is its last turn.
    if chat or survey.num_conversations:
        return question
    return f"Question: {question}\nAnswer:"


def _warm_start(survey: Survey, settings: Settings) -> Iterator[str]:
    yield "# A model that solves next to nothing has nothing to learn from. Train it on worked"
    if settings.warm_epochs:
        yield f"# solutions first: the data has {survey.num_solutions:,}. Leave it out for a model"
        yield "# that can do the task already."
        yield f"warm_start: {{epochs: {settings.warm_epochs}}}"
    elif survey.num_solutions:
        yield f"# solutions first (the data has {survey.num_solutions:,}):"
        yield "# warm_start: {epochs: 1}"
    else:
        yield "# solutions first (the data has none: name a file with `question` and `solution`):"
        yield "# warm_start: {path: demonstrations.jsonl, epochs: 1}"


def _engine(settings: Settings) -> Iterator[str]:
    yield "engine:"
    yield _line("  # dtype: auto", "the default: chosen for the device")
    yield _line(f"  max_model_len: {settings.max_model_len}", "prompt and text together, tokens")
    yield _line("  # kv_cache_memory_bytes: null", "on a GPU: gpu_memory_utilization decides")


def _sampling(survey: Survey, settings: Settings) -> Iterator[str]:
    yield "sampling:"
    share = f"of {survey.num_train:,} training problems"
    yield _line(f"  problems_per_round: {settings.size.problems}", share)
    yield f"  samples_per_problem: {settings.size.samples}"
    yield _line("  temperatures: [0.7, 1.0]", "cycled over a problem's samples")
    length = "longer texts are cut and never trained on"
    if survey.num_solutions:
        length = f"the data's long solutions have {survey.solution_tokens}"
    yield _line(f"  max_tokens: {settings.max_tokens}", length)
    yield ""
    if not settings.is_graded:
        if settings.can_judge:
            yield "# The model judges its own texts: there are no gold answers to judge them by."
            form, when = "", ""
        else:
            yield "# As published (2212.08073): every draft is criticised and revised, and the"
            yield "# revisions are learnt. A model this small ends few critiques in a verdict;"
            yield "# asked in turns of a chat it repeats half of them in the place of answering."
            form, when = " form: paper,", " revise_when: always,"
        if survey.num_conversations and settings.can_judge:
            yield "# Critique and revision are asked for as further turns of the conversation."
            form = " form: turns,"
        tokens = f"max_critique_tokens: {CRITIQUE_TOKENS}"
        yield f"refine: {{critique: true,{form} revisions: 1,{when} {tokens}}}"
        yield "# Principles to appeal to: constitution: principles.json (docs/constitution.md)."
    else:
        yield "# Gold answers judge the samples. Critique and revision cost three times as many"
        yield "# tokens: {critique: true, revisions: 1}."
        yield "refine: {critique: false, revisions: 0}"


def _selection(survey: Survey, settings: Settings) -> Iterator[str]:
    yield "filters:"
    if settings.is_graded:
        yield _line("  gold: true", "keep what ends in the gold answer")
        copies = "calculations" if survey.numeric else "exact"
        yield _line(f"  duplicates: {copies}", "keep one of samples that are alike")
    else:
        yield _line("  gold: false", "there are no gold answers")
        yield _line("  format: false", "a text needs no final answer")
        if settings.can_judge:
            yield _line("  critic: true", "keep what the last critique approves")
        else:
            yield _line("  critic: false", "true: keep what the last critique approves")
        yield "  duplicates: exact"
        yield "  # With a grader that reads answers (last_number), a majority vote is a filter:"
        yield "  # agreement: 0.5"
    yield "  per_problem: 4"
    yield ""
    sampled = settings.size.problems * settings.size.samples
    yield "dataset:"
    yield f"  # A round samples {sampled:,} texts. It trains if it keeps so many; else it only"
    yield "  # measures. Low, so that small data and a weak model train at least one round."
    yield f"  min_examples: {settings.min_examples}"
    yield _line("  replay_fraction: 0.1", "share of solutions from the data, where it has any")


def _training(settings: Settings) -> Iterator[str]:
    yield "# Models of more than 50 M parameters are trained by LoRA. `peft: null` trains all of"
    yield "# them (take a fifth of this learning rate), `peft: {r: 32}` takes LoraConfig's names."
    yield _line("sft:", "SFTConfig's own names")
    yield f"  learning_rate: {settings.learning_rate}"
    yield f"  num_train_epochs: {EPOCHS}"
    yield "  per_device_train_batch_size: 8"


def _probe(settings: Settings) -> Iterator[str]:
    yield "# The same held-out problems every round. `ouroloop plan` says which losses they show."
    yield "probe:"
    yield f"  problems: {settings.size.probe_problems}"
    yield f"  samples: {PROBE_SAMPLES}"
    yield _line(f"  baseline_samples: {settings.size.baseline_samples}", "in rounds 0 and 1")
