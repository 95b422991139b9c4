"""Formats made from JSON lines, at the end of a run or by `abhinaya convert`."""
