"""The embedded voters: small heads on lower layers of Whisper's encoder, and a text network."""
