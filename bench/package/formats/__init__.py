"""A variant in the form that another tool loads: `onnx_graph`, `openvino_ir`, `torchscript`, `monai_bundle` with its
`bundle_config`, and `triton`; beside each the `description` of how it is used.
"""
