"""The comparison of commits: environments, runs, and times that are measured in turns."""
