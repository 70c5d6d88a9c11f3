"""What judges of all families share: settings, seeds, data, training, metrics and the cache of trained models."""
