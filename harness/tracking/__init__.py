"""What of a project is followed over its commits."""
