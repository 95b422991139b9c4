"""A module of a plug-in that cannot be imported."""

raise ImportError("libacme.so.3 is missing")
