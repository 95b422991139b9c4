"""Training and evaluation: from a folder of clips to weights the monitor loads."""
