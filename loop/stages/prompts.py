"""What a checkpoint is asked: the task's templates, or the loop's own where it brings none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ouroloop.evals.tasks import Form, Prompts
from ouroloop.loop.errors import RecipeError
from ouroloop.loop.records import Problem, Prompt
from ouroloop.loop.stages.constitution import Principle
from ouroloop.loop.stages.dialogue import (
    Dialogue,
    Said,
    Speaker,
    as_text,
    as_turns,
    conversation,
    ends_with_label,
)

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

# What a critique looks for in further turns where the recipe names no constitution.
ANY_FAULT = Principle(
    name="any fault",
    critique_request=(
        "Review your last answer: name its first mistake or its worst fault, if it has one."
    ),
    revision_request="Write the answer anew, so that it has no such fault. Write the answer alone.",
)
# Of `Prompts`, what other keys of a recipe decide.
_DECIDED = ("form", "asks_verdict")


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
    known = [name for name in Prompts.__dataclass_fields__ if name not in _DECIDED]
    unknown = set(override) - set(known)
    if unknown:
        raise RecipeError(
            f"task.prompts: unknown key {sorted(unknown)[0]!r}. Known keys: {', '.join(known)}."
        )
    prompts = replace(base, **override)
    if prompts.chat and not chat_template:
        raise RecipeError(
            "task.prompts.chat: true, but the checkpoint has no chat template. Set it to false, or"
            " save the tokenizer with one."
        )
    words = (str(prompts.approve).strip().casefold(), str(prompts.reject).strip().casefold())
    if words[0] == words[1]:
        raise RecipeError(
            f"task.prompts.approve and task.prompts.reject: got {prompts.approve!r} for both;"
            " expected two words, or no verdict could be read. Change one of them."
        )
    _refuse_incomplete(prompts)
    return prompts


# What a template cannot do without.
NEEDS = {
    "draft": ("question",),
    "critique": ("question", "draft"),
    "revise": ("question", "draft", "critique"),
    "direct": ("question", "draft"),
    "answer": ("answer",),
    "verdict": ("verdict",),
}


def _refuse_incomplete(prompts: Prompts) -> None:
    for name, fields in NEEDS.items():
        template = getattr(prompts, name)
        for needed in fields:
            if f"{{{needed}}}" not in template:
                raise RecipeError(
                    f"task.prompts.{name}: the template has no {{{needed}}} field, got"
                    f" {template[:60]!r}. Write {{{needed}}} where it belongs."
                )


def render(prompts: Prompts, template: str, system: str | None = None, **fields: str) -> Prompt:
    """Fill a template: plain text, or chat turns when `prompts.chat`.

    Braces in the fields stay as they are.

    A system prompt becomes the system turn of a chat, or the first line of plain text.
    """
    return _under(prompts, system, _filled(template, **fields))


def ask(prompts: Prompts, problem: Problem, system: str | None = None) -> Prompt:
    """A problem's draft prompt: under `system`, or else the system prompt that it comes with.

    A conversation is asked with all its turns; the draft template is that of the last one.
    """
    system = system or problem.system
    # Where critiques are turns of a conversation, a question is the first turn of one.
    if not problem.messages and prompts.form is Form.PROMPTS:
        return render(prompts, prompts.draft, system, question=problem.question)
    said = _asked(prompts, problem)
    if prompts.chat:
        return _turns(prompts, system, said)
    return _under(prompts, system, as_text(said, Speaker.ASSISTANT))


def answered(prompts: Prompts, problem: Problem, text: str) -> tuple[Prompt, str]:
    """A problem's draft prompt, and a text as what a model writes after it."""
    prompt = ask(prompts, problem)
    # After a label the published form has a blank, which the model writes.
    is_plain = isinstance(prompt, str)
    return prompt, f" {text.lstrip()}" if is_plain and ends_with_label(prompt) else text


def earlier_answers(prompts: Prompts, problem: Problem) -> list[tuple[Prompt, str]]:
    """What a conversation's earlier assistant turns answered, and what they said.

    As they stand in its draft prompt: no draft template is around them.
    """
    said = conversation(problem)
    return [
        (_turns(prompts, problem.system, said[:number]), each.text)
        for number, each in enumerate(said)
        if each.speaker is Speaker.ASSISTANT
    ]


def ask_critique(
    prompts: Prompts,
    problem: Problem,
    draft: str,
    principle: Principle | None,
    shots: Sequence[Dialogue] = (),
) -> Prompt:
    """A critique of `draft`, an answer to the problem; `shots` are put before it."""
    if prompts.form is Form.PROMPTS:
        request = principle.critique_request if principle else ""
        fields = {"question": problem.question, "draft": draft, "principle": request}
        return render(prompts, prompts.critique, **fields)
    said = (Said(Speaker.ASSISTANT, draft), _critique_request(prompts, principle))
    return _continued(prompts, problem, said, shots, Speaker.CRITIQUE)


def ask_revision(
    prompts: Prompts,
    problem: Problem,
    draft: str,
    critique: str | None,
    principle: Principle | None,
    shots: Sequence[Dialogue] = (),
) -> Prompt:
    """A revision of `draft` in the light of a critique, or directly where that is None.

    In the forms other than `prompts` the critique is what answered `ask_critique` with the same
    principle.
    """
    if prompts.form is Form.PROMPTS:
        request = principle.revision_request if principle else ""
        fields = {"question": problem.question, "draft": draft, "principle": request}
        template = prompts.direct if critique is None else prompts.revise
        return render(prompts, template, critique=critique or "", **fields)
    found = principle or ANY_FAULT
    said = [Said(Speaker.ASSISTANT, draft)]
    if critique is not None:
        said.append(_critique_request(prompts, principle))
        said.append(Said(Speaker.CRITIQUE, critique))
    said.append(Said(Speaker.REVISION_REQUEST, found.revision_request))
    return _continued(prompts, problem, said, shots, Speaker.REVISION)


def _critique_request(prompts: Prompts, principle: Principle | None) -> Said:
    """What a critique should look for, and how it should end where its verdict is read."""
    request = (principle or ANY_FAULT).critique_request
    if prompts.asks_verdict:
        ends = [prompts.verdict.replace("{verdict}", v) for v in (prompts.approve, prompts.reject)]
        right, wrong = (end.replace("{finding}", "") for end in ends)
        request += f"\nEnd with a line of its own that is either `{right}` or `{wrong}`."
    return Said(Speaker.CRITIQUE_REQUEST, request)


def _asked(prompts: Prompts, problem: Problem) -> Dialogue:
    """The conversation that a problem is, the draft template around its last turn."""
    *before, last = conversation(problem)
    return (*before, last._replace(text=_filled(prompts.draft, question=last.text)))


def _continued(
    prompts: Prompts,
    problem: Problem,
    said: Sequence[Said],
    shots: Sequence[Dialogue],
    speaker: Speaker,
) -> Prompt:
    """A problem's conversation that goes on, worked dialogues before it."""
    worked = [each for shot in shots for each in shot]
    dialogue = (*worked, *_asked(prompts, problem), *said)
    if prompts.chat and prompts.form is Form.TURNS:
        return _turns(prompts, problem.system, dialogue)
    return _under(prompts, problem.system, as_text(dialogue, speaker))


def _filled(template: str, **fields: str) -> str:
    return re.sub(
        r"\{(question|draft|critique|principle)\}", lambda m: fields.get(m[1], ""), template
    )


def _under(prompts: Prompts, system: str | None, text: str) -> Prompt:
    """One text, after a system prompt where there is one: a user turn, or plain."""
    if prompts.chat:
        return _turns(prompts, system, [Said(Speaker.HUMAN, text)])
    system = system or prompts.system
    return f"{system}\n{text}" if system else text


def _turns(prompts: Prompts, system: str | None, dialogue: Sequence[Said]) -> Prompt:
    """Chat turns, the system's first."""
    system = system or prompts.system
    turns = as_turns(dialogue)
    return [{"role": "system", "content": system}, *turns] if system else turns
