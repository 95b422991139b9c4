"""Outputs of a run: the terminal, files, and alerts."""
