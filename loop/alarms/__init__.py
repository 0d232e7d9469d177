"""`ouroloop bench alarms`: the traces of many runs as Parquet, and every detector on them.

What is simulated, what a detector is and how it is judged stands in
`ouroloop.monitors.bench.alarms`; docs/alarms.md is for readers.
"""
