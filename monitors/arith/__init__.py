"""Reading arithmetic in text: numbers, expressions, calculations."""
