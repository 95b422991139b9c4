"""The monitor: audio comes in, segments travel, voted labels come out."""
