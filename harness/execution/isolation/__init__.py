"""Worker processes: the fork server, its client, the handle of a worker, and the worker itself."""
