"""Formats that a run writes at its end, and `abhinaya convert` at any time, from JSON lines."""
