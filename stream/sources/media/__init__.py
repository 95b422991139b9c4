"""Containers and codecs: what PyAV decodes, which track is heard, whether it is complete."""
