"""Read-only watchers of a model's diversity and calibration. Knows neither `loop` nor `evals`; numpy and scipy only."""
