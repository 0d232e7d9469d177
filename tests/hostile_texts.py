"""Texts that a model, or somebody who attacks a grader, may write: the fuzz corpus of the tests.

Built from blocks by fixed rules, the same in every run. `every_text()` is the whole corpus,
`few_texts()` an even spread of it.
"""

from __future__ import annotations

import random
from functools import lru_cache

NUM_MIXED = 1_400
"""Texts made of several blocks.

With the blocks in every frame the corpus holds over 2,000 distinct texts.
"""

DIGITS = 5_000
"""More digits than Python's int() reads by default (4,300)."""

BLOCKS: dict[str, str] = {
    # Numbers: too long, with too many places, in other scripts, powers, divisions by zero.
    "number": "42",
    "long": "9" * DIGITS,
    "long_zeros": "0" * DIGITS + "7",
    "long_places": "0." + "3" * DIGITS,
    "long_commas": "1" + ",111" * 1_500,
    "limit": "8" * 60,
    "over_limit": "8" * 65,
    "arabic": "٣٥",
    "devanagari": "४७",
    "fullwidth": "７２",
    "superscript": "2²³",
    "roman": "Ⅻ",
    "circled": "①②",
    "tower": "9^9^9^9",
    "stars": "9**9**9",
    "factorial": "99999!!!",
    "exponent": "1e999999999",
    "small_exponent": "3e-99",
    "latex_exponent": "2 * 10^{999}",
    "by_zero": "1/0",
    "mixed_by_zero": "2 1/0",
    "mixed": "2 1/2",
    "zero_over_zero": "0/0",
    "fraction": "7/3",
    "long_fraction": "1/" + "3" * DIGITS,
    "percent": "20%",
    "negative": "-5",
    "signs": "-" * 200 + "5",
    "odd_points": "1.2.3.4..5",
    "odd_commas": "1,2,3,,4,",
    "inf": "inf",
    "nan": "NaN",
    "hex": "0x1F",
    "underscore": "1_000",
    "clock": "12:30",
    # Structure: brackets, LaTeX, notes, signs.
    "open": "(" * 300,
    "close": ")" * 300,
    "nested": "(" * 40 + "1+1" + ")" * 40,
    "deep_negative": "-(" * 60 + "3" + ")" * 60,
    "braces": "{" * 300,
    "boxed": r"\boxed{42}",
    "boxed_open": r"\boxed{" * 60,
    "boxed_nested": r"\boxed{\frac{1}{\frac{2}{\frac{3}{4}}}}",
    "boxed_long": r"\boxed{" + "7" * DIGITS + "}",
    "frac_by_zero": r"\frac{1}{0}",
    "frac_points": r"\frac{1.2.3}{.}",
    "frac_deep": r"\frac{" * 40 + "1" + "}{2}" * 40,
    "text_macro": r"\text{" * 30 + "x" + "}" * 30,
    "notes": "<<1+1=2>>" * 60,
    "notes_open": "<<" * 100,
    "note_long": "<<" + "9" * 190 + "=1>>",
    "note_by_zero": "<<5/0=0>>",
    "equals": "=" * 200,
    "chain": "1=" * 120,
    "sum": "1+" * 120 + "1",
    "product": "9*" * 70 + "9",
    "power_product": "*".join(["9" * 59] * 63),
    "divided": "1/" * 70 + "3",
    "hashes": "####" * 30,
    "hash_answer": "#### 18",
    "answer_tag": "<answer>5</answer>",
    "answer_open": "<answer>" * 40,
    "answers": "answer 5 " * 80,
    "says": "The answer is",
    "world_trace": "47+35\n40+30=70\n7+5=12\n70+12=82\nanswer 82",
    "world_long": "47+35\n" + "40+30=70\n" * 200 + "answer 82",
    # Characters: lone surrogates, controls, direction marks, combining marks, invisible ones.
    "high_surrogate": "\ud800",
    "low_surrogate": "\udfff",
    "surrogate_flood": "\udc80" * 100,
    "swapped_pair": "\ude00\ud83d",
    "emoji": "😀🏳️‍🌈",
    "last_plane": "\U0010ffff\ufffe\uffff",
    "nul": "\x00",
    "controls": "\x01\x07\x08\x0b\x0c\x1b[31m\x7f\x85",
    "right_to_left": "\u202e42\u202c\u200f",
    "isolates": "\u2066\u2067\u2068" * 20,
    "combining": "4" + "\u0301" * 200 + "2",
    "zero_width": "4\u200b2\ufeff",
    "line_ends": "\r\n\r\u2028\u2029\x1c\x1d",
    "spaces": "\u00a0\u202f\u2009\u3000" * 10,
    "cased": "İıſßŉ",
    # Words and control tokens.
    "words": "She sold half of twenty-five dozen clips",
    "unit_words": "5 apples per basket",
    "of": "of " * 100,
    "long_word": "x" * 3_000,
    "long_line": "lorem 1 ipsum 2 " * 400,
    "end_token": "<|im_end|>",
    "start_token": "<|im_start|>system\n",
    "other_tokens": "</s><|endoftext|><pad>[INST]",
    "html": "<script>alert(1)</script>&amp;&#x0;",
    "format": "{question} {} {0} %s %n",
    "markdown": "**Answer:** `42`",
    "json": '{"answer": [[[[]]]]}',
    "blank": " \t\n",
    "newlines": "\n" * 300,
}

FRAMES = (
    "{}",
    "{0}+{0}={0}",
    "2*3={}",
    "{}=6",
    "#### {}",
    "The answer is {}.",
    "answer {}",
    r"\boxed{{{}}}",
    "<<{0}*2={0}>>",
    "A: {}",
    "47+35\n40+30={}\nanswer {}",
)
"""Places in a solution where a block may stand."""

JOINTS = ("", " ", "\n", "=", "+", "*", "/", " of ", " and ", "-", "(", ")", ", ")


@lru_cache
def every_text() -> tuple[str, ...]:
    """At least 2,000 distinct texts, the empty one and blank ones among them."""
    framed = [frame.format(block, block) for block in BLOCKS.values() for frame in FRAMES]
    return tuple(dict.fromkeys(["", " ", "\n", "\t \n", *BLOCKS.values(), *framed, *_mixed()]))


def few_texts(stride: int = 40) -> tuple[str, ...]:
    """All blocks and every `stride`-th of the other texts, for what is slow."""
    return tuple(dict.fromkeys([*BLOCKS.values(), *every_text()[::stride]]))


def _mixed() -> list[str]:
    """Two to six blocks each, joined by signs, words or nothing."""
    rng = random.Random("hostile texts")
    blocks = list(BLOCKS.values())
    texts = []
    for _ in range(NUM_MIXED):
        parts = [rng.choice(blocks) + rng.choice(JOINTS) for _ in range(rng.randint(2, 6))]
        texts.append("".join(parts))
    return texts
