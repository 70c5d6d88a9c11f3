"""What is compared: suites, and the series that asv follows over commits."""
