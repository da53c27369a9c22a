"""OpenVINO on the CPU: `engine`; INT8 by `quantize`, with `class_check` of classes that it leaves uncertain.

`runtime_graph` says what ran; `matrix_product` is what the peak is measured by.
"""
