"""Networks that come as a program: `torch_program` (TorchScript and torch.export), `onnx_graph` after `onnx_checks`;
its `answers` to noise, with which our own network of the same weights is compared; `build` makes the `Model`."""
