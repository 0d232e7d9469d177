"""One metric per file: a RoundView in, Readings out."""
