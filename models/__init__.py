"""The voters: every model that looks at a segment, and how their votes combine."""
