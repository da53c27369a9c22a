"""INT8 before it is built: imitated in PyTorch (`fake_quantization`), to see which layers may have it (`sensitivity`)."""
