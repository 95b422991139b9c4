"""A demo recording and the script that made it."""
