"""Problems, splits and demonstrations of the arithmetic world. Pure functions of a seed; no torch.

Families: `sum2` (in-distribution: two-digit sums, every strategy applies), `sum3` (longer operands: length generalisation, exposure bias), `missing` and
`multibuy` (novel structures: one rare strategy alone maps onto them), `copy`, `sort`, `compare` (unrelated skills: general ability).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass

from evals.tasks import Problem, Prompts
from evals.worlds.arithmetic import strategies as st

PROMPTS = Prompts(
    draft="{question}\nA: ",
    critique="{question}\nA: {draft}\nC: ",
    revise="{question}\nA: {draft}\nC: {critique}\nR: ",
    approve="right",
    reject="wrong",
)

FAMILIES = ("sum2", "sum3", "missing", "multibuy", "copy", "sort", "compare")
SKILLS = ("copy", "sort", "compare")
STRATEGY_WEIGHTS = {"column": 0.38, "split": 0.28, "compensate": 0.18, "jump": 0.16}
"""How often demonstrations use each strategy where it applies."""

SPLITS = {"pretrain": (0, 50), "train": (50, 75), "reserve": (75, 80), "heldout": (80, 100)}
"""Hash buckets (per cent) of the operands: two splits never share a pair of numbers, whatever the wording or the order."""

_NAMES = ("Tom", "Ana", "Ben", "Eva", "Sam", "Mia", "Leo", "Zoe")
_THINGS = ("apples", "coins", "books", "cards", "shells", "pens")
_TEMPLATES = {
    "sum": (
        "{name} has {a} {thing} and gets {b} more. How many in all?",
        "There are {a} {thing} here and {b} there. How many in all?",
        "{name} finds {a} {thing}, then {b}. What is the total?",
        "Add {a} and {b}.",
    ),
    "missing": (
        "{name} has {a} {thing} and wants {b}. How many are missing?",
        "What must be added to {a} to get {b}?",
    ),
    "multibuy": (
        "{name} buys {b} {thing} for {a} each. What is the cost?",
        "One costs {a}. What do {b} cost?",
    ),
    "copy": ("Copy the digits {a}.",),
    "sort": ("Sort the digits {a}.",),
    "compare": ("Which is larger, {a} or {b}?",),
}


def split_of(family: str, a: int, b: int) -> str:
    """The split that a pair of numbers belongs to: by hash, blind to order, so that no split sees another's pair."""
    kind = "sum" if family.startswith("sum") else family
    key = f"{kind}:{min(a, b)}:{max(a, b)}"
    bucket = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= bucket < high)


def draw(family: str, split: str, rng: random.Random) -> Problem:
    """One random problem of a family whose numbers lie in `split`."""
    while True:
        a, b = _operands(family, rng)
        if split_of(family, a, b) == split:
            return problem(family, a, b, rng)


def problem(family: str, a: int, b: int, rng: random.Random) -> Problem:
    """The problem of these numbers in a random wording. Its id is a hash of the question."""
    template = rng.choice(_TEMPLATES["sum" if family.startswith("sum") else family])
    question = template.format(name=rng.choice(_NAMES), thing=rng.choice(_THINGS), a=a, b=b)
    answer = _answer(family, a, b)
    tail = family == "sum2" and a % 10 + b % 10 >= 10 and a + b >= 100
    identity = hashlib.sha256(f"{family}:{question}".encode()).hexdigest()[:12]
    return Problem(f"{family}-{identity}", question, str(answer), family, "tail" if tail else "typical", metadata={"a": a, "b": b})


def pick_strategy(family: str, a: int, rng: random.Random) -> str:
    """A strategy that applies, by the world's weights."""
    names = [name for name in st.STRATEGIES[family] if st.applies(name, family, a)]
    return rng.choices(names, [STRATEGY_WEIGHTS[name] for name in names])[0]


def demonstrate(item: Problem, strategy: str | None) -> str:
    """A right trace. Skills have no strategy: their trace is the answer alone."""
    if strategy is None:
        return st.render([], int(item.answer or 0))
    return st.render(*st.write(st.STRATEGIES[item.family][strategy](item.metadata["a"], item.metadata["b"])))


@dataclass(frozen=True)
class Demonstration:
    """One pretraining row: prompt and completion as text; `kind` is draft, critique or revision."""

    kind: str
    family: str
    prompt: str
    completion: str


def demonstrations(split: str, seed: int, mix: dict[str, float], family_mix: dict[str, float]) -> Iterator[Demonstration]:
    """An endless stream of demonstrations. `mix` weighs draft, critique and revision; `family_mix` weighs the families."""
    rng = random.Random(seed)
    kinds, families = list(mix), list(family_mix)
    while True:
        family = rng.choices(families, list(family_mix.values()))[0]
        kind = "draft" if family in SKILLS else rng.choices(kinds, list(mix.values()))[0]
        item = draw(family, split, rng)
        strategy = None if family in SKILLS else pick_strategy(family, item.metadata["a"], rng)
        right = demonstrate(item, strategy)
        if kind == "draft" or strategy is None:
            yield Demonstration("draft", family, PROMPTS.draft.format(question=item.question), right)
            continue
        slipped = rng.random() < (0.55 if kind == "critique" else 0.85)
        draft = slip(item, strategy, rng) if slipped else right
        critique = criticise(item, draft)
        if kind == "critique":
            yield Demonstration(kind, family, PROMPTS.critique.format(question=item.question, draft=draft), critique)
        else:
            yield Demonstration(kind, family, PROMPTS.revise.format(question=item.question, draft=draft, critique=critique), right)


def criticise(item: Problem, draft: str) -> str:
    """The true critique: one word per step up to the first wrong one, then the verdict."""
    trace = st.parse(draft)
    if trace is None:
        return "no: wrong at 1"
    wrong = st.read(item.family, item.metadata["a"], item.metadata["b"], trace).first_wrong
    if wrong is None:
        return " ".join(["ok"] * (len(trace.steps) + 1)) + ": right"
    return " ".join([*["ok"] * wrong, "no"]) + f": wrong at {wrong + 1}"


def slip(item: Problem, strategy: str, rng: random.Random) -> str:
    """A wrong trace with one slip that the rest is honestly built on: a wrong value, a lost carry, a misread number or a wrong answer."""
    a, b = item.metadata["a"], item.metadata["b"]
    while True:
        text = _slip_once(st.STRATEGIES[item.family][strategy], a, b, rng)
        trace = st.parse(text)
        if trace is not None and st.read(item.family, a, b, trace).first_wrong is not None:
            return text


def _slip_once(maker: st.Maker, a: int, b: int, rng: random.Random) -> str:
    if rng.random() < 0.15:
        return st.render(*st.write(maker(*((_near(a, rng), b) if rng.random() < 0.5 else (a, _near(b, rng))))))
    right, _ = st.write(maker(a, b))
    at = rng.randrange(len(right) + 1)
    lost_carry = rng.random() < 0.3

    def claim(index: int, expression: str) -> int:
        if index != at:
            return st.value_of(expression)
        return st.value_of(expression) - 1 if lost_carry and expression.count("+") == 2 else _near(st.value_of(expression), rng)

    steps, answer = st.write(maker(a, b), claim)
    if at == len(right):
        answer = _near(answer, rng)
    elif lost_carry and steps[at][0].count("+") == 2:
        steps[at] = (steps[at][0].removesuffix("+1"), steps[at][1])
    return st.render(steps, answer)


def _near(value: int, rng: random.Random) -> int:
    """A plausible wrong number: one, two or ten off, or two digits swapped."""
    swapped = int(str(value)[::-1]) if value >= 10 else value
    options = [v for v in (value + 1, value - 1, value + 2, value - 2, value + 10, value - 10, swapped) if v >= 0 and v != value]
    return rng.choice(options)


def _operands(family: str, rng: random.Random) -> tuple[int, int]:
    if family == "sum2":
        return rng.randint(11, 99), rng.randint(11, 99)
    if family == "sum3":
        return rng.randint(100, 999), rng.randint(100, 999)
    if family == "missing":
        a = rng.randint(11, 88)
        return a, rng.randint(a + 2, 99)
    if family == "multibuy":
        return rng.randint(1, 9) * 10 + rng.randint(7, 9), rng.randint(2, 9)
    if family == "compare":
        a, b = rng.sample(range(11, 999), 2)
        return a, b
    return int("".join(str(rng.randint(1, 9)) for _ in range(rng.randint(3, 5)))), 0


def _answer(family: str, a: int, b: int) -> int:
    match family:
        case "sum2" | "sum3":
            return a + b
        case "missing":
            return b - a
        case "multibuy":
            return a * b
        case "compare":
            return max(a, b)
        case "sort":
            return int("".join(sorted(str(a))))
        case _:
            return a
