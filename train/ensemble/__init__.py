"""Fit a combiner of voters."""
