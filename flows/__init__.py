"""What runs: flows that read like a table of contents, and their command lines."""
