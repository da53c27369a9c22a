"""A variant in the form that another tool loads: `onnx_graph`, `openvino_ir`, `torchscript`, `monai_bundle` with its
`bundle_config`; beside each the `description` of how it is used. `triton` and `mlserver` hold the whole package, for
servers of models: `case_config` is their part of it, `case_tensors` the contract of server and client.
"""
