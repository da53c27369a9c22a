"""Backends that run the network in PyTorch.

`engine` is their frame and `session` what they share. `eager` runs the module as it stands, under autocast or in 16
bits; `torchscript`, after `tracing`, `compile` and `aoti` compile it; `cuda_graph` records it.
`self_check` holds PyTorch's convolutions against float64 before any of them is opened.
"""
