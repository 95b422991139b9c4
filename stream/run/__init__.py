"""One run of the monitor: starts and supervises the processes, and records their events."""
