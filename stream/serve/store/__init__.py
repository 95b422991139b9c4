"""The history: events, verdicts, alerts and corrections in one SQLite file."""
