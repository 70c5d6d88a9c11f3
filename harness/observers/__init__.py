"""Hands runs to trackers of experiments while they go on, or from the store: MLflow, Weights & Biases, TensorBoard."""
