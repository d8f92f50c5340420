"""The home of PyCUDA: context, kernels, slots, engines of the GPU."""
