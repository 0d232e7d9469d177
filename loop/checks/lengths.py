"""The prompts' lengths compared with the engine's context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median

from ouroloop.loop.checks.findings import Finding, Level
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.records import Problem
from ouroloop.loop.round import Round
from ouroloop.loop.setup import Setting
from ouroloop.loop.stages.dialogue import Speaker, as_text
from ouroloop.loop.stages.preferring import Comparer, Comparison
from ouroloop.loop.stages.prompts import ask
from ouroloop.loop.stages.train import table_of

CHARACTERS_PER_TOKEN = 3.0
"""Of English and digits in the vocabularies of today's models, on the low side: lengths are then
rather over- than underestimated. Only for checkpoints whose tokenizer cannot be read here."""
CHAT_TOKENS = 32
"""Room for the marks of chat turns and a template's own short system prompt."""
NUM_MEASURED = 2000
"""Lengths are measured of so many problems at most, evenly over the file."""


@dataclass(frozen=True)
class Counter:
    """Counts tokens. how: in words."""

    count: Callable[[Sequence[str]], list[int]]
    how: str

    @classmethod
    def of(cls, model: Path) -> Counter:
        """The checkpoint's own tokenizer where it can be read without torch, else characters."""
        file = check_checkpoint(model).tokenizer / "tokenizer.json"
        try:
            from tokenizers import Tokenizer

            tokenizer = Tokenizer.from_file(str(file))
        except Exception:  # one of Rust's without a class of its own, no package, or no such file
            return cls(_by_characters, f"at {CHARACTERS_PER_TOKEN:g} characters a token")

        def count(texts: Sequence[str]) -> list[int]:
            return [len(found.ids) for found in tokenizer.encode_batch(list(texts))]

        return cls(count, "counted")


def check(setting: Setting, run_path: Path) -> list[Finding]:
    """Whether prompts, drafts and revisions fit, and what else the recipe asks for.

    How many worked dialogues fit beside them, and whether two samples that are compared do.
    """
    everything = [*setting.problems, *setting.probe_set.problems]
    measured = everything[:: max(1, len(everything) // NUM_MEASURED)]
    prompts = [_asked(setting, problem) for problem in measured]
    counter = Counter.of(setting.base)
    tokens = [num + CHAT_TOKENS * setting.prompts.chat for num in counter.count(prompts)]
    return [
        _finding(setting, tokens, counter),
        *_shots(setting, tokens, counter),
        *_comparisons(setting),
    ]


def _comparisons(setting: Setting) -> list[Finding]:
    """Whether two samples and their question fit; one that does not makes no preference pair."""
    recipe = setting.recipe
    makes_pairs = any(table_of(recipe, number) is Round.pairs for number in recipe.first_rounds)
    if "compared" not in recipe.pairs.sources or not makes_pairs:
        return []
    comparer = Comparer.of(recipe.pairs, setting.prompts.chat)
    longest = max(setting.problems, key=lambda problem: len(problem.question))
    empty, principle = Comparison(longest, "", "", seed=0), max(comparer.principles, key=len)
    asked = comparer.question(empty, principle, "", "")
    needed = Counter.of(setting.base).count([asked])[0] + CHAT_TOKENS * setting.prompts.chat
    needed += 2 * recipe.sampling.max_tokens
    room = recipe.engine.max_model_len
    size = f"a question about two samples takes {needed} tokens at most"
    if needed > room:
        what = (
            f"{size}, engine.max_model_len is {room}: what does not fit makes no pair. Set it to"
            f" {rounded(needed)}, or leave pairs.few_shots out."
        )
        return [Finding(Level.WARNING, "comparisons", what)]
    return [Finding(Level.OK, "comparisons", f"{size} of engine.max_model_len {room}")]


def _shots(setting: Setting, tokens: Sequence[int], counter: Counter) -> Iterator[Finding]:
    """How many of `refine.shots` have room before the request of a revision."""
    recipe, dialogues = setting.recipe, setting.shots.dialogues
    if not dialogues:
        return
    shots = counter.count([as_text(shot, Speaker.HUMAN) for shot in dialogues])
    rest = recipe.refine.max_critique_tokens + 2 * recipe.sampling.max_tokens

    def fitting(prompt: int) -> int:
        """The last ones are kept: the first are left out."""
        used = list(accumulate(reversed(shots), initial=prompt + rest))
        return sum(num <= recipe.engine.max_model_len for num in used[1:])

    usual, fewest = fitting(round(median(tokens))), fitting(max(tokens))
    what = (
        f"of {len(dialogues)} worked dialogues ({sum(shots)} tokens) the last {usual} have room"
        f" before a usual conversation, {fewest} before the longest"
    )
    if usual == len(dialogues):
        yield Finding(Level.OK, "shots", what)
        return
    needed = round(median(tokens)) + rest + sum(shots)
    what += f"; all of them would take engine.max_model_len {rounded(needed)}"
    yield Finding(Level.WARNING, "shots", what)


def _finding(setting: Setting, tokens: Sequence[int], counter: Counter) -> Finding:
    recipe = setting.recipe
    room = recipe.engine.max_model_len
    longest = max(tokens)
    drafted = recipe.sampling.max_tokens
    # A revision is asked with the draft and the critique in its prompt.
    refined = 0
    if recipe.refine.critique:
        refined = recipe.refine.max_critique_tokens
    if recipe.refine.revisions:
        refined += drafted
    size = f"prompts of {median(tokens):.0f} tokens, the longest {longest} ({counter.how})"
    # First the drafts: without them there is nothing to revise.
    cut = sum(num + drafted > room for num in tokens)
    if cut:
        level = Level.ERROR if cut == len(tokens) else Level.WARNING
        what = (
            f"{size}, and sampling.max_tokens {drafted} go beyond engine.max_model_len {room} for"
            f" {cut / len(tokens):.0%} of the problems, whose answers are cut. Set it to"
            f" {rounded(longest + drafted + refined)}."
        )
        return Finding(level, "lengths", what)
    needed = longest + drafted + refined
    if needed > room:
        what = (
            f"{size}: a critique or revision of the longest takes {needed} tokens,"
            f" engine.max_model_len is {room}. Set it to {rounded(needed)}."
        )
        return Finding(Level.WARNING, "lengths", what)
    what = f"{size}; {needed} of engine.max_model_len {room} are used at most"
    return Finding(Level.OK, "lengths", what)


def _asked(setting: Setting, problem: Problem) -> str:
    """The text of a problem's draft prompt."""
    prompt = ask(setting.prompts, problem)
    return prompt if isinstance(prompt, str) else "\n".join(turn["content"] for turn in prompt)


def _by_characters(texts: Sequence[str]) -> list[int]:
    return [round(len(text) / CHARACTERS_PER_TOKEN) + 1 for text in texts]


def rounded(tokens: int) -> int:
    """Up to a multiple of 64."""
    return -(-tokens // 64) * 64
