"""Where completions come from: one protocol, several engines. Knows only `records` and `errors`."""
