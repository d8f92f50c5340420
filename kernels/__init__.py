"""CUDA kernels, one self-contained .cu per operation, and their NumPy twins."""
