"""The rule that turns votes into one label."""
