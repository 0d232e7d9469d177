"""The harness of experiments: arms, seeds, workers, tables."""
