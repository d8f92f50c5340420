"""The native CNN engine: an ONNX detector through our own kernels."""
