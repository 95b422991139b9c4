"""The embedded voters: small heads on the lower levels of Whisper's encoder, and a text tower."""
