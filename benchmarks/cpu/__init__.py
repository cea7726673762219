"""On a CPU."""
