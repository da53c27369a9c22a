"""OpenVINO on the CPU: `engine`; INT8 by `quantize`, with `class_check` of classes that it leaves uncertain.

`matrix_product` is what the peak is measured by.
"""
