"""Tasks, grading and held-out scores. Knows neither `loop` nor `monitors`."""
