"""`abhinaya doctor`: small checks of this machine, each with a remedy for what it finds."""
