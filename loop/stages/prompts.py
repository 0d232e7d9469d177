"""Templates of the loop for checkpoints that bring none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ouroloop.evals.tasks import Prompts
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.records import Message, Problem, Prompt

# For instruction-tuned checkpoints. A base model takes the same with `chat: false`.
CHAT = Prompts(
    # Chain of thought with a final-answer marker: Magister et al. 2212.08410; Yuan et al.
    # 2308.01825.
    draft=(
        "{question}\n\nThink step by step, one calculation per line. End with a line that says:"
        " answer N"
    ),
    # Critique request, then revision request: Bai et al. 2212.08073, section 3. The verdict line is
    # ours: it makes the critic's confidence readable.
    critique=(
        "Question: {question}\n\nSolution:\n{draft}\n\nCheck this solution step by step."
        " {principle}\nName the first wrong step, if there is one. End with a line of its own"
        " that is either `verdict: right` or `verdict: wrong`."
    ),
    revise=(
        "Question: {question}\n\nSolution:\n{draft}\n\nCritique:\n{critique}\n\nRewrite the"
        " solution so that it is right. {principle}\nOne calculation per line. End with a line that"
        " says: answer N"
    ),
    direct=(
        "Question: {question}\n\nSolution:\n{draft}\n\nRewrite the solution so that it is right."
        " {principle}\nOne calculation per line. End with a line that says: answer N"
    ),
    approve="right",
    reject="wrong",
    chat=True,
)

# For tasks whose texts have no final answer.
FREE_TEXT = Prompts(
    # Bai et al. 2212.08073, section 3, with our verdict line.
    draft="{question}",
    critique=(
        "Request: {question}\n\nResponse:\n{draft}\n\nReview this response. {principle}\nName"
        " its worst fault, if it has one. End with a line of its own that is either"
        " `verdict: right` or `verdict: wrong`."
    ),
    revise=(
        "Request: {question}\n\nResponse:\n{draft}\n\nReview:\n{critique}\n\nRewrite the"
        " response so that it has no such fault. {principle}"
    ),
    direct=(
        "Request: {question}\n\nResponse:\n{draft}\n\nRewrite the response so that it is better."
        " {principle}"
    ),
    answer="{answer}",
    approve="right",
    reject="wrong",
    chat=True,
)


def resolve_prompts(
    task_prompts: Prompts | None,
    override: dict[str, Any] | None,
    chat_template: bool,
    reads_answers: bool = True,
) -> Prompts:
    """The task's own templates, or the loop's, with the recipe's `task.prompts` laid over them.

    `chat_template`: whether the checkpoint has one. Without it the loop's are asked as plain text,
    unless the recipe insists on chat turns. `reads_answers`: whether texts end in a final answer.

    Raises: RecipeError: an unknown key, a template without a field that it needs, or chat turns for
        a checkpoint without a chat template.
    """
    base = task_prompts or replace(CHAT if reads_answers else FREE_TEXT, chat=chat_template)
    if not override:
        return base
    unknown = set(override) - set(Prompts.__dataclass_fields__)
    if unknown:
        raise RecipeError(
            f"task.prompts: unknown key {sorted(unknown)[0]!r}. Known keys:"
            f" {', '.join(Prompts.__dataclass_fields__)}."
        )
    prompts = Prompts(
        **{**{name: getattr(base, name) for name in Prompts.__dataclass_fields__}, **override}
    )
    if prompts.chat and not chat_template:
        raise RecipeError(
            "task.prompts.chat: true, but the checkpoint has no chat template. Set it to false, or"
            " save the tokenizer with one."
        )
    needs = {
        "draft": ("question",),
        "critique": ("question", "draft"),
        "revise": ("question", "draft", "critique"),
        "direct": ("question", "draft"),
        "answer": ("answer",),
        "verdict": ("verdict",),
    }
    for name, fields in needs.items():
        for needed in fields:
            if f"{{{needed}}}" not in getattr(prompts, name):
                raise RecipeError(f"task.prompts.{name}: the template has no {{{needed}}} field.")
    return prompts


def render(prompts: Prompts, template: str, system: str | None = None, **fields: str) -> Prompt:
    """Fill a template: plain text, or chat turns when `prompts.chat`.

    Braces in the fields stay as they are.

    A system prompt becomes the system turn of a chat, or the first line of plain text.
    """
    text = re.sub(
        r"\{(question|draft|critique|principle)\}", lambda m: fields.get(m[1], ""), template
    )
    system = system or prompts.system
    if not prompts.chat:
        return f"{system}\n{text}" if system else text
    turns: list[Message] = [{"role": "user", "content": text}]
    return [{"role": "system", "content": system}, *turns] if system else turns


def ask(prompts: Prompts, problem: Problem, system: str | None = None) -> Prompt:
    """A problem's draft prompt: under `system`, or else the system prompt that it comes with."""
    return render(prompts, prompts.draft, system or problem.system, question=problem.question)
