"""A checkpoint file to a `Model`, running nothing of what the file holds.

`reader`: bytes to tensors and plain values. `load`: the one place that asks which network they are of. `ensemble`: the
mean of several. `portable`: a network as files without code.
`model` is what comes out, `task` what it is for (`task_file`: as the user writes it), `options` what the user said,
`errors` and `suppress` what is shown and what is not.

Each kind of network has a room: `networks` (our own, and any network's outputs and weights), `nnunet`, `monai`,
`programs` (TorchScript, torch.export, ONNX) and `user_code` (``--arch``). `inspection` words all of it for
`bench inspect`.
"""
