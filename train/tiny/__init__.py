"""How the embedded voters are made: features, heads, text tower, vote, and their figures."""
