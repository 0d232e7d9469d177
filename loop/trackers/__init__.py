"""Where a run is shown besides its own folder. Trackers may fail without hurting the run."""
