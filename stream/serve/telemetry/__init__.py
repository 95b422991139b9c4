"""What operators watch: metrics, health, traces. No words and no names of streams or people."""
