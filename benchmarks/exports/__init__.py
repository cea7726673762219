"""Graphs of real architectures, as PyTorch's exporters write them."""
