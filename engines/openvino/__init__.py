"""OpenVINO on the CPU: `engine`, `class_check` of classes that INT8 leaves uncertain, `matrix_product` for its peak."""
