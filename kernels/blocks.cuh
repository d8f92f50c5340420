// What convolutions of numbers (conv.cu) and of bytes (conv_int8.cu) share: whose block it is,
// where a value lies, and when copies to shared memory have arrived.

// Which convolution this block works for, and which of its blocks it is.
template <class Group>
__device__ inline const auto& member(const Group& g, int& block) {
    int i = 0;
    while (i + 1 < g.count && (int)blockIdx.x >= g.first[i + 1]) ++i;
    block = blockIdx.x - g.first[i];
    return g.members[i];
}

// Where a value lies in a tensor whose parts have these distances.
__device__ inline long long place(int frame, int channel, int pixel, int x_frame, int step, int of_pixel) {
    return (long long)frame * x_frame + channel * step + pixel * of_pixel;
}

// All copies since the last call are one stage.
__device__ inline void staged() {
#ifdef CUDASIM
    __pipeline_commit();
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
}
// Waits for all stages of this thread but the last `LEFT`.
template <int LEFT>
__device__ inline void arrived() {
#ifdef CUDASIM
    __pipeline_wait_prior(LEFT);
#elif __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}
