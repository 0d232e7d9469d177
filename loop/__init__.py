"""The story: draft, critique, revise, filter, train, measure, decide - round after round.

Knows `monitors` and `evals`.
"""
