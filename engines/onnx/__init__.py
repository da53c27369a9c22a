"""The network as an ONNX file (`export`), quantized (`quantize`), and run by ONNX Runtime (`runtime`)."""
