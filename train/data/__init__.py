"""What training reads: clips, sentences, and what is done to both before a model sees them."""
