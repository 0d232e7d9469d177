"""The folder of a run: written once, proven when read, locked, copied to where others reach it."""
