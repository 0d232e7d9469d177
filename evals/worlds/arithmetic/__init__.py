"""Worded problems with integer answers and named solution strategies: the truth that unsupervised monitors are held against."""
