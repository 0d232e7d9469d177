"""Where a run is shown besides its own folder. A tracker may fail without hurting the run.

`base` is what a tracker is, `registry` finds the ones that a recipe asks for, `process` runs them
beside the run. `headline`, `points`, `choice`, `trace_drafts` and `notes` are what they show of a
run, and know no server. `mlflow*` is MLflow, `checkpoint_model` what loads a model from there.
"""
