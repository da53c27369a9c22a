"""The fused network for CUDA: `engine` runs it, `network` rewrites the model, its norms by Triton
(`triton_norm`) or by PyTorch (`torch_norm`), its convolutions by cuDNN or by Triton (`triton_conv`), as `choice` times
them."""
