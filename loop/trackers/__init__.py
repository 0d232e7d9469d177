"""Where a run is shown besides its own folder. A tracker may fail without hurting the run.

`base` is what a tracker is, `registry` finds the ones that a recipe asks for, `process` runs them
beside the run, `points` is what they show of a round, and `mlflow*` is MLflow.
"""
