"""A plugin-based benchmarking harness for deep-learning techniques."""

__version__ = "0.1.0"
