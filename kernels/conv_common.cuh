// What convolutions share: their parameters, which part of y a block computes, and how its sums get
// there. Part of conv.cu, whose top tells the layout.

#if defined(HALF_IN) || defined(HALF_OUT)
#include <cuda_fp16.h>
__device__ inline float number(__half v) { return __half2float(v); }
__device__ inline void put(__half* to, float v) { *to = __float2half(v); }
#endif
__device__ inline float number(float v) { return v; }
__device__ inline void put(float* to, float v) { *to = v; }

#ifdef HALF_IN
#include <mma.h>
typedef __half input_t;
#else
typedef float input_t;
#endif
#ifdef HALF_OUT
typedef __half output_t;
#else
typedef float output_t;
#endif
#ifdef CUDASIM
#define __grid_constant__
#endif

// one group is in_c to out_c channels; as CONV in app/cuda/native/launch.py
struct Conv {
    const input_t *x, *w, *first_w;
    const float *bias, *first_bias;
    const output_t* added;
    output_t *y, *also;
    int in_c, in_h, in_w, x_step, x_pixel, x_frame;
    int out_c, out_h, out_w, y_step, y_pixel, y_frame;
    int added_step, added_pixel, added_frame, also_step, also_pixel, also_frame, also_h, also_w;
    int kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int frames, w_step, groups, kind, first_kind, late, wide, parts;
    float p, q, first_p, first_q;
};

enum { MOST = 16 };
struct Group {
    Conv members[MOST];
    int first[MOST];  // blocks before those of each
    int count;
    float* sums;   // of parts, where blocks share a sum: M * N for each block of the grid
    int* counted;  // and how many of them are there; zeros before and after a launch
};

// One output value from its sum: bias, activation, and the other tensor's value (0: there is none).
__device__ inline float finished(const Conv& c, int channel, float v, float other) {
    v += c.bias[channel];
    if (!c.late) v += other;
    v = activate(v, c.kind, c.p, c.q);
    return c.late ? v + other : v;
}

// Does f for each pixel of `also` that repeats an output pixel.
template <class F>
__device__ inline void repeat(const Conv& c, int pixel, F f) {
    int across = c.out_w * c.also_w, y = pixel / c.out_w * c.also_h, x = pixel % c.out_w * c.also_w;
    for (int i = 0; i < c.also_h; ++i)
        for (int j = 0; j < c.also_w; ++j) f((y + i) * across + x + j);
}

__device__ inline void finish(const Conv& c, int frame, int channel, int pixel, float sum) {
    float other = 0;
    if (c.added)
        other = number(c.added[place(frame, channel, pixel, c.added_frame, c.added_step, c.added_pixel)]);
    float v = finished(c, channel, sum, other);
    put(c.y + place(frame, channel, pixel, c.y_frame, c.y_step, c.y_pixel), v);
    if (c.also)
        repeat(c, pixel, [&](int to) {
            put(c.also + place(frame, channel, to, c.also_frame, c.also_step, c.also_pixel), v);
        });
}

#ifdef HALF_IN
// 8 neighbouring values, read and written as one piece.
union Eight {
    uint4 piece;
    __half values[8];
    __device__ Eight() : piece(make_uint4(0, 0, 0, 0)) {}
    __device__ explicit Eight(const __half* from) : piece(*reinterpret_cast<const uint4*>(from)) {}
    __device__ void to(__half* place) const { *reinterpret_cast<uint4*>(place) = piece; }
    __device__ __half2 pair(int k) const { return __halves2half2(values[2 * k], values[2 * k + 1]); }
};
#endif

#ifdef HALF_OUT
// The same of 8 channels, in whole pieces.
__device__ inline void finish8(const Conv& c, int frame, int channel, int pixel, const float* sums) {
    Eight v;
    if (c.added)
        v = Eight(c.added + place(frame, channel, pixel, c.added_frame, 1, c.added_pixel));
#pragma unroll
    for (int k = 0; k < 8; ++k)
        put(v.values + k, finished(c, channel + k, sums[k], number(v.values[k])));
    v.to(c.y + place(frame, channel, pixel, c.y_frame, 1, c.y_pixel));
    if (c.also)
        repeat(c, pixel, [&](int to) {
            v.to(c.also + place(frame, channel, to, c.also_frame, 1, c.also_pixel));
        });
}
#endif

// Which part of y a block computes, and which part of each sum; its sums: N pixels of M channels,
// STEP apart.
template <int M, int N>
struct Part {
    enum { STEP = M + 4 };
    int frame, group, first_m, first_n, pixels, slice;
    __device__ Part(const Conv& c, int block) {
        pixels = c.out_h * c.out_w;
        int across = (pixels + N - 1) / N, down = (c.out_c + M - 1) / M;
        slice = block % c.parts, block /= c.parts;
        first_n = block % across * N, block /= across;
        first_m = block % down * M, block /= down;
        group = block % c.groups, frame = block / c.groups;
    }
};

template <int M, int N>
__device__ inline void finish(const Conv& c, const Part<M, N>& part, const float* sums) {
    constexpr int STEP = Part<M, N>::STEP;
#ifdef HALF_OUT
    if (c.wide) {
        for (int i = threadIdx.x; i < M * N / 8; i += blockDim.x) {
            int n = i / (M / 8), m = i % (M / 8) * 8, channel = part.first_m + m;
            if (channel < c.out_c && part.first_n + n < part.pixels)
                finish8(c, part.frame, channel, part.first_n + n, sums + n * STEP + m);
        }
        return;
    }
#endif
    bool channels_last = c.y_step == 1;  // neighbours write to neighbours
    for (int i = threadIdx.x; i < M * N; i += blockDim.x) {
        int m = channels_last ? i % M : i / N, n = channels_last ? i / M : i % N;
        int channel = part.first_m + m, pixel = part.first_n + n;
        if (channel < c.out_c && pixel < part.pixels)
            finish(c, part.frame, part.group * c.out_c + channel, pixel, sums[n * STEP + m]);
    }
}

// Adds up sums whose parts several blocks have: each leaves its own in memory, and the last to come
// takes all of them, in the order of the parts, so that the result does not depend on who that is.
// Whether this block is the one.
template <int M, int N>
__device__ inline bool added_up(const Group& g, int parts, int slice, float* sums) {
    if (parts == 1) return true;
    constexpr int FOURS = M * N / 4;
    int first = blockIdx.x - slice, last = 0;
    float4* all = reinterpret_cast<float4*>(g.sums) + (long long)first * FOURS;
    auto four = [&](int i) {
        return reinterpret_cast<float4*>(sums + i / (M / 4) * Part<M, N>::STEP + i % (M / 4) * 4);
    };
    for (int i = threadIdx.x; i < FOURS; i += blockDim.x) all[slice * FOURS + i] = *four(i);
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();  // what this block wrote is there before it is counted
        last = atomicAdd(g.counted + first, 1) == parts - 1;
        if (last) g.counted[first] = 0;
        __threadfence();  // and what the others wrote is read after that
    }
    if (!__syncthreads_or(last)) return false;
    for (int i = threadIdx.x; i < FOURS; i += blockDim.x) {
        float4 v = all[i];
#pragma unroll 4
        for (int k = 1; k < parts; ++k) {
            float4 more = all[k * FOURS + i];
            v.x += more.x, v.y += more.y, v.z += more.z, v.w += more.w;
        }
        *four(i) = v;
    }
    __syncthreads();
    return true;
}
