"""Worded problems with integer answers and named solution strategies.

The truth that unsupervised monitors are compared with.
"""
