"""What counts as the same way of solving a problem."""
