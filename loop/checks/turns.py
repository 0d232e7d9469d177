"""The turns of the problems' conversations compared with the checkpoint's chat template."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.template_local import refused_turns
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.prompts import ask

# What every chat template renders; a tokenizer is not loaded for it.
USUAL = ("user",)


def check(setting: Setting) -> Iterator[Finding]:
    """Conversations and system prompts that the template refuses: no sample could be drawn."""
    if not setting.prompts.chat:
        return
    problems_S: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
    for problem in (*setting.problems, *setting.probe_set.problems, *setting.demonstrations):
        prompt = ask(setting.prompts, problem)
        if not isinstance(prompt, str):
            problems_S[tuple(turn["role"] for turn in prompt)].append(problem)
    if not set(problems_S) - {USUAL}:
        return
    folder = check_checkpoint(setting.base).tokenizer
    refused = refused_turns(folder, setting.recipe.chat_template_kwargs, problems_S)
    for roles, why in refused.items():
        problems = problems_S[roles]
        what = (
            f"the chat template refuses the turns {', '.join(roles[:5])}"
            f"{', ...' if len(roles) > 5 else ''} of {len(problems):,} problems, such as"
            f" {problems[0].id!r} ({why}). Leave out system prompts or greetings that it does not"
            " know, or take those problems out."
        )
        yield Finding(Level.ERROR, "turns", what)
