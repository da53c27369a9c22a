"""Networks that come as a program: TorchScript and torch.export (`program`), ONNX (`onnx_graph`, `onnx_checks`), and
`recognition` of one that our own network answers for."""
