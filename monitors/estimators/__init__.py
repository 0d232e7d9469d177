"""Estimators and intervals: pure functions of arrays. Knows nothing of rounds."""
