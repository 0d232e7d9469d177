"""Published systems and collapse arms, re-run: each a set of recipes and a table."""
