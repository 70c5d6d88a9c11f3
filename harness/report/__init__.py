"""Shows a run to a person."""
