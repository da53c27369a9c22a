"""The fused network for CUDA: `engine` runs it, `network` rewrites the model, its norms by Triton or by PyTorch."""
