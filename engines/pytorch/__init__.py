"""Backends that run the network in PyTorch, on one `session`: as it stands, in lower precision, or compiled."""
