"""Weights of the compact voters, one ONNX file and one card each."""
