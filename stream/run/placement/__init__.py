"""Where the processes of a cluster run: one seam, two implementations."""
