"""What really ran.

`mac_counter` lists a network's multiply-accumulates layer by layer: by `dataflow` what PyTorch computes on the way to
its outputs, by `onnx_layers` those of an ONNX graph. `onednn` reads oneDNN's own account. `mismatch` judges whether
what ran is what the backend's name promises.
"""
