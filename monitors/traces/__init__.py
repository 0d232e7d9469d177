"""Traces of anybody's loop as the views that metrics read."""
