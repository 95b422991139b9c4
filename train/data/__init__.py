"""Corpora, manifests and audio for training and evaluation."""
