"""Stores the rows of runs: their schema, the store on disk, its index, and exports."""
