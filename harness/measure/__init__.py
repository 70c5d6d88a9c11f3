"""Reads clocks, memory and the environment."""
