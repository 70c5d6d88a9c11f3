"""Follows stored results over commits and runs: series, their changes of level, and which of these are accepted."""
