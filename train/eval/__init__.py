"""Evaluation: measures predictions, and makes tables and curves."""
