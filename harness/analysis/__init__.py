"""Turns rows into comparisons: intervals, tests, tuning, claims."""
