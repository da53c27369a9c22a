"""The fused network for CUDA: `engine` opens it, `network` rewrites it, its norms by Triton or by PyTorch."""
