"""The published systems as recipes, and their headline results re-run on the small world.

One file per system.
"""
