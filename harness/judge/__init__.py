"""Shared tools of all families: settings, seeds, data, training, metrics and the cache of trained models."""
