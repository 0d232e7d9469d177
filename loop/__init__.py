"""The story: draft, critique, revise, filter, train, measure, decide - round after round. Knows `monitors` and `evals`."""

__version__ = "0.1.0"
