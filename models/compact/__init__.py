"""Voters small enough to travel inside the package: onnxruntime on one thread, no torch."""
