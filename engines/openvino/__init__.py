"""OpenVINO on the CPU: `engine`, with the `core` of the process; INT8 by `quantize`.

`class_check` computes classes anew that INT8 leaves uncertain. `runtime_graph` says what ran; `matrix_product` is what
the peak is measured by.
"""
