"""The node process: runs models on the tasks of the hub and returns their answers."""
