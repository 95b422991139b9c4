"""The routes of the API: each module has those of one topic."""
