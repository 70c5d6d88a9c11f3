"""The processes that cases run in: fork server, workers, and what passes between them and the runner."""
