"""Podcast feeds: read them, fetch their episodes, and record which are processed."""
