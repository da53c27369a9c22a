"""OpenVINO on the CPU: `engine`, and `matrix_product`, from which its peak is measured."""
