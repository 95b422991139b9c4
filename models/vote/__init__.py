"""How votes become one label."""
