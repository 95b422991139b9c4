"""Sends alerts to the other sinks, to commands and to webhooks."""
