"""The judge: contracts, workloads, data and metrics."""
