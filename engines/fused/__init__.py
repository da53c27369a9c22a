"""The fused network for CUDA: `engine` runs it, `network` rewrites the model, its norms by Triton
(`triton_norm`) or by PyTorch (`torch_norm`)."""
