"""The workloads of ``regularize``, a module for each kind of data."""
