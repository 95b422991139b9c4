"""The published voters in torch: S1, S2, T2, ST1, and classifiers of transformers."""
