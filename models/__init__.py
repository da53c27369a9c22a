"""Architectures, and the checkpoint reader that never runs what a file holds."""
