"""The models that transcribe and label a segment, and the rule that combines their votes."""
