"""Executors that come with the host: processes of this machine, and the calling process."""
