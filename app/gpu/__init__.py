"""The home of PyCUDA: context, kernels, page-locked memory. Imported by CUDA backends only."""
