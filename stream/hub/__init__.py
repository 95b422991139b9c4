"""The hub: assigns tasks to nodes, collects their votes and publishes verdicts."""
