"""T1: a language model that another server runs."""
