"""The gateway: a web console, an API and telephone lines for the monitor."""
