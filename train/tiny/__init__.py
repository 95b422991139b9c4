"""Trains the embedded voters and their vote rule, and measures them."""
