"""Small worlds whose true strategies are known."""
