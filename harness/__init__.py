"""A plugin-based benchmarking harness for deep-learning techniques."""

__version__ = "0.2.0"
