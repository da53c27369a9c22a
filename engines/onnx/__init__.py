"""The network as an ONNX file (`export`), quantized (`quantize`), and run by ONNX Runtime.

`runtime` is on its CPU and CUDA providers, `runtime_tensorrt` on its TensorRT provider.
"""
