"""Traces that others wrote: their files, as the rows that `ouroloop.monitors.traces` reads."""
