"""The gateway: API, console, telephone lines, history."""
