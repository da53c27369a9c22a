"""INT8 before it is built: imitated in PyTorch (`fake_quantization`); `sensitivity` finds the layers that may have it."""
