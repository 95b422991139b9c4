"""One run of the monitor: its processes, and the record of what they say."""
