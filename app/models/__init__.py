"""The model shelf: manifests, weights, detector families, ONNX tools."""
