"""The monitors' own test bench.

Simulated rounds whose truth is known, and the validation tables.
"""
