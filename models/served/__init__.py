"""T1: a language model on a server."""
