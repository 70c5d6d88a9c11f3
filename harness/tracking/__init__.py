"""Tracks a project over its commits."""
