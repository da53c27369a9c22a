"""INT8 before it is built: imitated in PyTorch (`fake_quantization`); `sensitivity` finds which layers may have it."""
