"""Cells: several hubs, each with nodes of its own, and which call goes to which."""
