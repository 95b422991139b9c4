"""Where verdicts go: the terminal and files."""
