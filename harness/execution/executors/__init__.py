"""Executors: where and how the units of a run are carried out."""
