"""Settings of a run: profiles, environment variables, flags and alert rules."""
