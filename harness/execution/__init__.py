"""Runs cases: the parent's runner, the isolated worker, the executors."""
