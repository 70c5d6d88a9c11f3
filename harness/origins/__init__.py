"""Finds users' models and data before a run: in folders, packages, the local cache of a hub, or on the hub itself."""
