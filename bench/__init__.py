"""Measurements of the monitor, each printed by one command."""
