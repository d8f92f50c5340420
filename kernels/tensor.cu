// Everything of a network that is no convolution.
//
// Purpose    element by element (unary, binary) on tensors of up to 6 axes with any strides, which
//            also copies and transposes; pooling, resizing, softmax, products of matrices.
// Input      offsets are in the pointers; sizes s0..s5 of y, and for each tensor the distance d0..d5
//            between neighbours along each axis, in elements (0: the same value again)
//            pool, resize: x, y (frames, channels, h, w); rows without gaps, pixels `x_pixel`,
//            channels `x_step`, frames `x_frame` apart, and so for y
//            gridsample: grid (frames, out_h, out_w, 2) without gaps: x and y in -1 .. 1 between the
//            outer edges; halves if `half_grid`
// Types      x, a, b: float, or half with -DHALF_IN; y: float, or half with -DHALF_OUT; all that is
//            computed is float
//            -DINT8, for pool and resize: x and y bytes, of which none is new: the largest, the nearest
//            matmul: y = a b for the last two of four axes; the second has `many` elements
// Grid       one thread an element of y; block 256
//            softmax, layernorm: one block of 32 a row
//            matmul: one block of 256 a TILE x TILE of y
// Twin       tests/cuda/step_twins.py

#if defined(HALF_IN) || defined(HALF_OUT)
#include <cuda_fp16.h>
__device__ inline float number(__half v) { return __half2float(v); }
__device__ inline void put(__half* to, float v) { *to = __float2half(v); }
#endif
__device__ inline float number(float v) { return v; }
__device__ inline void put(float* to, float v) { *to = v; }

#if defined(INT8)
__device__ inline float number(signed char v) { return v; }
__device__ inline void put(signed char* to, float v) { *to = (signed char)v; }
typedef signed char input_t;
#elif defined(HALF_IN)
typedef __half input_t;
#else
typedef float input_t;
#endif
#if defined(INT8)
typedef signed char output_t;
#elif defined(HALF_OUT)
typedef __half output_t;
#else
typedef float output_t;
#endif

#include "activate.cuh"
enum { ADD, SUB, MUL, DIV };

extern "C" __global__ void unary(const input_t* __restrict__ x, output_t* __restrict__ y, int count,
                                 int s1, int s2, int s3, int s4, int s5, int x0, int x1, int x2,
                                 int x3, int x4, int x5, int y0, int y1, int y2, int y3, int y4,
                                 int y5, int kind, float p, float q) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int i5 = i % s5, i4 = i / s5 % s4, i3 = i / (s5 * s4) % s3, rest = i / (s5 * s4 * s3);
    int i2 = rest % s2, i1 = rest / s2 % s1, i0 = rest / (s2 * s1);
    float v = number(x[i0 * x0 + i1 * x1 + i2 * x2 + i3 * x3 + i4 * x4 + i5 * x5]);
    put(y + i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3 + i4 * y4 + i5 * y5,
        kind == SQRT ? sqrtf(v) : activate(v, kind, p, q));
}

extern "C" __global__ void binary(const input_t* __restrict__ a, const input_t* __restrict__ b,
                                  output_t* __restrict__ y, int count, int s1, int s2, int s3, int s4,
                                  int s5, int a0, int a1, int a2, int a3, int a4, int a5, int b0,
                                  int b1, int b2, int b3, int b4, int b5, int y0, int y1, int y2,
                                  int y3, int y4, int y5, int op, int kind, float p, float q) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int i5 = i % s5, i4 = i / s5 % s4, i3 = i / (s5 * s4) % s3, rest = i / (s5 * s4 * s3);
    int i2 = rest % s2, i1 = rest / s2 % s1, i0 = rest / (s2 * s1);
    float u = number(a[i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3 + i4 * a4 + i5 * a5]);
    float w = number(b[i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3 + i4 * b4 + i5 * b5]);
    float v = op == ADD ? u + w : op == SUB ? u - w : op == MUL ? u * w : u / w;
    put(y + i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3 + i4 * y4 + i5 * y5,
        kind == SQRT ? sqrtf(v) : activate(v, kind, p, q));
}

// Planes of channels: how they lie, and which value of y a thread computes.
struct Planes {
    int h, w, step, pixel, frame;
    __device__ long long at(int of_frame, int channel, int y, int x) const {
        return (long long)of_frame * frame + channel * step + (y * w + x) * pixel;
    }
};
struct Place {
    int frame, channel, y, x;
    __device__ Place(const Planes& out, int channels, int i) {
        int pixels = out.h * out.w, at = i % (pixels * channels);
        frame = i / (pixels * channels);
        // neighbours take neighbours
        channel = out.step == 1 ? at % channels : at / pixels;
        int p = out.step == 1 ? at / channels : at % pixels;
        y = p / out.w, x = p % out.w;
    }
};

// `mean`: 0 the largest, 1 the mean of what lies inside, 2 the mean with padding counted
extern "C" __global__ void pool(const input_t* __restrict__ x, output_t* __restrict__ y, int count,
                                int channels, int in_h, int in_w, int x_step, int x_pixel, int x_frame,
                                int out_h, int out_w, int y_step, int y_pixel, int y_frame, int kh,
                                int kw, int stride_h, int stride_w, int pad_h, int pad_w, int mean) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Planes in = {in_h, in_w, x_step, x_pixel, x_frame}, out = {out_h, out_w, y_step, y_pixel, y_frame};
    Place to(out, channels, i);
    int top = to.y * stride_h - pad_h, left = to.x * stride_w - pad_w;
    float best = -INFINITY, sum = 0;
    int inside = 0;
    for (int row = max(top, 0); row < min(top + kh, in_h); ++row)
        for (int column = max(left, 0); column < min(left + kw, in_w); ++column) {
            float v = number(x[in.at(to.frame, to.channel, row, column)]);
            best = v > best || isnan(v) ? v : best;  // once NaN it stays: nothing is above it
            sum += v;
            ++inside;
        }
    float v = mean == 0 ? best : sum / (mean == 1 ? inside : kh * kw);
    put(y + out.at(to.frame, to.channel, to.y, to.x), v);
}

// `mode`: 0 nearest, 1 linear with half-pixel centres, 2 linear from the corner
extern "C" __global__ void resize(const input_t* __restrict__ x, output_t* __restrict__ y, int count,
                                  int channels, int in_h, int in_w, int x_step, int x_pixel,
                                  int x_frame, int out_h, int out_w, int y_step, int y_pixel,
                                  int y_frame, int mode) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Planes in = {in_h, in_w, x_step, x_pixel, x_frame}, out = {out_h, out_w, y_step, y_pixel, y_frame};
    Place to(out, channels, i);
    auto value = [&](int row, int column) { return number(x[in.at(to.frame, to.channel, row, column)]); };
    float v;
    if (mode == 0) {
        v = value(to.y * in_h / out_h, to.x * in_w / out_w);
    } else {
        float shift = mode == 1 ? 0.5f : 0.0f;
        float fy = (to.y + shift) * ((float)in_h / out_h) - shift;
        float fx = (to.x + shift) * ((float)in_w / out_w) - shift;
        fy = fminf(fmaxf(fy, 0.0f), in_h - 1.0f);
        fx = fminf(fmaxf(fx, 0.0f), in_w - 1.0f);
        int y0 = (int)fy, x0 = (int)fx, y1 = min(y0 + 1, in_h - 1), x1 = min(x0 + 1, in_w - 1);
        fy -= y0, fx -= x0;
        float upper = value(y0, x0) * (1 - fx) + value(y0, x1) * fx;
        float lower = value(y1, x0) * (1 - fx) + value(y1, x1) * fx;
        v = upper * (1 - fy) + lower * fy;
    }
    put(y + out.at(to.frame, to.channel, to.y, to.x), v);
}

extern "C" __global__ void gridsample(const input_t* __restrict__ x, const void* __restrict__ grid,
                                      output_t* __restrict__ y, int count, int channels, int in_h,
                                      int in_w, int x_step, int x_pixel, int x_frame, int out_h,
                                      int out_w, int y_step, int y_pixel, int y_frame, int half_grid) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Planes in = {in_h, in_w, x_step, x_pixel, x_frame}, out = {out_h, out_w, y_step, y_pixel, y_frame};
    Place to(out, channels, i);
    int at = ((to.frame * out_h + to.y) * out_w + to.x) * 2;
    auto coordinate = [&](int k) {
#ifdef HALF_IN
        if (half_grid) return __half2float(static_cast<const __half*>(grid)[at + k]);
#endif
        return static_cast<const float*>(grid)[at + k];
    };
    float fx = ((coordinate(0) + 1) * in_w - 1) / 2, fy = ((coordinate(1) + 1) * in_h - 1) / 2;
    // far outside is outside, and within int; so is NaN
    fx = fminf(fmaxf(fx, -2.0f), in_w + 1.0f), fy = fminf(fmaxf(fy, -2.0f), in_h + 1.0f);
    int x0 = (int)floorf(fx), y0 = (int)floorf(fy);
    auto value = [&](int row, int column) {
        bool inside = (unsigned)row < (unsigned)in_h && (unsigned)column < (unsigned)in_w;
        return inside ? number(x[in.at(to.frame, to.channel, row, column)]) : 0.0f;
    };
    fx -= x0, fy -= y0;
    float upper = value(y0, x0) * (1 - fx) + value(y0, x0 + 1) * fx;
    float lower = value(y0 + 1, x0) * (1 - fx) + value(y0 + 1, x0 + 1) * fx;
    put(y + out.at(to.frame, to.channel, to.y, to.x), upper * (1 - fy) + lower * fy);
}

extern "C" __global__ void layernorm(const input_t* __restrict__ x, const input_t* __restrict__ scale,
                                     const input_t* __restrict__ shift, output_t* __restrict__ y,
                                     int columns, float epsilon) {
    const input_t* from = x + (long long)blockIdx.x * columns;
    output_t* to = y + (long long)blockIdx.x * columns;
    float mean = 0, variance = 0;
    for (int i = threadIdx.x; i < columns; i += 32) mean += number(from[i]);
    for (int k = 16; k; k /= 2) mean += __shfl_xor_sync(0xffffffffu, mean, k);
    mean /= columns;
    for (int i = threadIdx.x; i < columns; i += 32) {
        float v = number(from[i]) - mean;
        variance += v * v;
    }
    for (int k = 16; k; k /= 2) variance += __shfl_xor_sync(0xffffffffu, variance, k);
    float factor = 1.0f / sqrtf(variance / columns + epsilon);
    for (int i = threadIdx.x; i < columns; i += 32)
        put(to + i, (number(from[i]) - mean) * factor * number(scale[i]) + number(shift[i]));
}

extern "C" __global__ void softmax(const input_t* __restrict__ x, output_t* __restrict__ y, int columns) {
    const input_t* from = x + (long long)blockIdx.x * columns;
    output_t* to = y + (long long)blockIdx.x * columns;
    float most = -INFINITY, sum = 0;
    for (int i = threadIdx.x; i < columns; i += 32) most = fmaxf(most, number(from[i]));
    for (int k = 16; k; k /= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, k));
    for (int i = threadIdx.x; i < columns; i += 32) sum += expf(number(from[i]) - most);
    for (int k = 16; k; k /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, k);
    for (int i = threadIdx.x; i < columns; i += 32) put(to + i, expf(number(from[i]) - most) / sum);
}

extern "C" __global__ void __launch_bounds__(256)
    matmul(const input_t* __restrict__ a, const input_t* __restrict__ b, output_t* __restrict__ y, int m,
           int n, int k, int many, int a0, int a1, int a2, int a3, int b0, int b1, int b2, int b3, int y0,
           int y1, int y2, int y3) {
    enum { TILE = 16 };
    __shared__ float rows[TILE][TILE], columns[TILE][TILE + 1];
    int across = (n + TILE - 1) / TILE, down = (m + TILE - 1) / TILE, i = threadIdx.x / TILE;
    int block = blockIdx.x / (across * down), tile = blockIdx.x % (across * down);
    int j = threadIdx.x % TILE, row = tile / across * TILE + i, column = tile % across * TILE + j;
    a += (long long)(block / many) * a0 + (long long)(block % many) * a1;
    b += (long long)(block / many) * b0 + (long long)(block % many) * b1;
    y += (long long)(block / many) * y0 + (long long)(block % many) * y1;
    float sum = 0;
    for (int first = 0; first < k; first += TILE) {
        rows[i][j] = row < m && first + j < k ? number(a[row * a2 + (first + j) * a3]) : 0;
        columns[i][j] = column < n && first + i < k ? number(b[(first + i) * b2 + column * b3]) : 0;
        __syncthreads();
        for (int c = 0; c < TILE; ++c) sum += rows[i][c] * columns[c][j];
        __syncthreads();
    }
    if (row < m && column < n) put(y + row * y2 + column * y3, sum);
}
