"""Telephone calls as inputs: one module a protocol."""
