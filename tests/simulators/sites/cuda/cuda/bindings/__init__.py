"""The simulated CUDA bindings."""
