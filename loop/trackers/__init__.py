"""Where a run is shown besides its own folder. A tracker may fail without hurting the run.

`base` is what a tracker is, `registry` finds the ones that a recipe asks for, `process` runs them
beside the run. `page` is what every one of them shows of a run, and when; `headline`, `points`,
`choice`, `trace_drafts` and `notes` make that, and know no server. `mlflow*` is MLflow,
`checkpoint_model` what loads a model from there; `wandb` and `trackio` are those services.
"""
