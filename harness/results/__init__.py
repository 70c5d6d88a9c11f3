"""Keeps rows: schema, store, index, exports."""
