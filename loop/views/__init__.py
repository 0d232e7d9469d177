"""How people look at a run. Reads the run directory; knows no stage."""
