"""What a recipe takes on some hardware: tokens, memory, time and disk (`ouroloop plan --hardware`).

Arithmetic from the recipe, the model's shape, and what an earlier run measured. What rests on a
data sheet alone is marked as an estimate.
"""
