"""Weights of the embedded voters, their cards, and the graph of Whisper's encoder."""
