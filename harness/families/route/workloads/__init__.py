"""The workloads of ``route``, a module each."""
