"""The monitors and the decision rule, tried on streams whose truth is known. Results stand in MONITORS.md."""
