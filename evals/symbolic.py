"""Symbolic comparison by math-verify (extra `verify`).

Imported by sandbox workers only: never call it on untrusted text elsewhere.
"""

from __future__ import annotations

from math_verify import parse, verify


def same_expression(gold: str, answer: str) -> bool:
    """Whether math-verify finds two mathematical expressions equal.

    Source: huggingface/Math-Verify; its own time-outs are whole-second alarms that work in a main
    thread only, which a worker's is.
    """
    return bool(verify(parse(f"${gold.strip('$')}$"), parse(f"${answer.strip('$')}$")))
