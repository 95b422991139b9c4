"""Benchmarks of the monitor, one command each."""
