"""Iterative self-distillation that is measured every round, and steered before it collapses.

`ouroloop.loop` runs the rounds, `ouroloop.monitors` measures and decides (and is usable alone),
`ouroloop.evals` holds tasks and graders. In a checkout the three are links to the folders of the
same names at the top of the repository (docs/decisions/010); a wheel holds the folders themselves.
"""

__version__ = "0.2.0"
