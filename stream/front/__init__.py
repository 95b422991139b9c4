"""The front process: finds speech in its sources and sends numbered segments to the hub."""
