"""The workloads of the family, a module each."""
