"""Podcast feeds: which episodes there are, which are to be heard, and what has been."""
