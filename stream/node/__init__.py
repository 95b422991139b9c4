"""A worker process: tasks in, answers of its models out."""
