"""Several machines: the controller of cells, their hubs and nodes."""
