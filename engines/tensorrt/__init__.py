"""TensorRT, TensorRT for RTX and Torch-TensorRT. No GPU has run any of it yet.

`engine`, `rtx` and `torch_tensorrt` are the backends; `builder` builds plans, `qdq` writes the INT8 graph they start
from, `session` runs them, `inspector` reads what ran.
"""
