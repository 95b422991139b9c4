"""Predictions in, tables and curves out."""
