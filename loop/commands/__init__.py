"""The command line: a file for each group of commands, with options and what carries them out.

Heavy imports stand inside the commands, so that `--help` answers at once and a command needs only
the packages that it uses: see `extras`.
"""
