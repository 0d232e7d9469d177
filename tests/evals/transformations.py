"""Held-out questions in other clothes, as they leak: each changes a question and not its answer."""

import re

NAMES = ("Ada", "Bo", "Chen", "Dara", "Emil", "Farah", "Goran", "Hana")
UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
UNITS += ["eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"]
UNITS += ["eighteen", "nineteen", "twenty"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
# What begins a sentence and is no name.
STARTERS = re.compile(
    r"(If|How|What|There|The|An?|In|He|She|They|Each|On|At|For|When|After|Before|Every|It|One"
    r"|Some|To|Last|This|My|During|All|Of|Your|Calculate|Find)"
)


def name(question, rng):
    """Every name becomes another one, also where it begins the question."""
    found = set(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", question))
    first = re.match(r"[A-Z][a-z]+", question)
    if first and not STARTERS.fullmatch(first[0]) and first[0].lower() not in (*UNITS, *TENS):
        found.add(first[0])
    for old in sorted(found):
        question = re.sub(rf"\b{old}\b", rng.choice(NAMES) + old[-1], question)
    return question


def number_word(question, rng):
    """Whole numbers below a hundred in words."""
    whole = r"(?<![\d.,$/])\d{1,2}(?![\d/%]|[.,]\d)"
    return re.sub(whole, lambda found: in_words(int(found[0])), question)


def in_words(number):
    if number <= 20:
        return UNITS[number]
    unit = f"-{UNITS[number % 10]}" if number % 10 else ""
    return TENS[number // 10 - 2] + unit


def prefix(question, rng):
    texts = ("Solve this problem step by step: ", "Question 12. ", "Here is a riddle for you. ")
    return rng.choice(texts) + question


def suffix(question, rng):
    texts = (" Show your work.", " Give only the number.", " (This is question 7 of 20.)")
    return question + rng.choice(texts)


def clause_order(question, rng):
    """The last sentence first; of one sentence, its clauses backwards."""
    sentences = re.split(r"(?<=[.?!]) ", question)
    if len(sentences) > 1:
        return " ".join([sentences[-1], *sentences[:-1]])
    return ", ".join(question.rstrip(".?").split(", ")[::-1]) + "?"


def zero_width(question, rng):
    """A zero-width space inside every longer word."""
    words = []
    for word in question.split(" "):
        at = rng.randrange(1, len(word)) if len(word) > 3 else len(word)
        words.append(f"{word[:at]}\u200b{word[at:]}")
    return " ".join(words)


def all_of_them(question, rng):
    for change in (name, number_word, clause_order, prefix, suffix, zero_width):
        question = change(question, rng)
    return question


EACH = (name, number_word, prefix, suffix, clause_order, zero_width)


def other_numbers(question, rng):
    """Another problem of the same template: every number is another one."""
    return re.sub(r"\d+", lambda found: str(int(found[0]) + rng.randrange(1, 9)), question)
