"""The alarm benchmark: detectors of collapse under one locked budget of false alarms.

docs/alarms.md says what it measures and how to add a detector. Files are read and written by
`ouroloop.loop.alarms`; nothing here opens any.
"""
