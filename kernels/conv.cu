// Convolution as one matrix product a block of output (implicit GEMM); depthwise apart.
//
// Purpose    y = act(x * w + bias [+ added]), or act(x * w + bias) + added (`late`).
// Types      x and w float, or half with -DHALF_IN: then the products are of the tensor cores (WMMA),
//            summed in float; y and `added` float, or half with -DHALF_OUT
// Input      x: (frames, channels, in_h, in_w); rows and lines without gaps, channels `x_step`,
//            frames `x_frame` apart
//            w: (out, in * kh * kw), rows `w_step` apart (a multiple of 32), filled up with zeros
//            bias: float, (out); added: as y, channels `added_step`, frames `added_frame` apart;
//            or null
// Output     y: (frames, out, out_h, out_w), channels `y_step`, frames `y_frame` apart
// Convention output pixel (oy, ox) sees input (oy * stride - pad + k * dilation); outside is 0
// Grid       conv_MxN_S: x: N output pixels, y: M output channels of a group, z: the `groups` of
//            one frame after the other; block 256 where M = N = 64 in float, else 128. S: the side
//            of a square kernel, 0: any
//            conv_depthwise: x: 256 output pixels, y: channel, z: frame; block 256
// Twin       tests/gpu/step_twins.py: convolved

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

// one group is in_c to out_c channels; the order is the host's, who passes the members one by one
struct Conv {
    const input_t *x, *w;
    const float* bias;
    const output_t* added;
    output_t* y;
    int in_c, in_h, in_w, x_step, x_frame, out_c, out_h, out_w, y_step, y_frame;
    int added_step, added_frame, w_step, groups;
    int kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int kind;
    float p, q;
    int late;
};

enum { NONE, CLIP, LEAKY, EXP, SIGMOID, SILU, HARDSIGMOID, HARDSILU };

__device__ inline float unit(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }

__device__ inline float activate(float v, int kind, float p, float q) {
    switch (kind) {
        case CLIP: return v < p ? p : v > q ? q : v;  // NaN stays NaN, as fmaxf would not have it
        case LEAKY: return v >= 0 ? v : v * p;
        case EXP: return expf(v);
        case SIGMOID: return 1.0f / (1.0f + expf(-v));
        case SILU: return v / (1.0f + expf(-v));
        case HARDSIGMOID: return unit(v * p + q);
        case HARDSILU: return v * unit(v * p + q);
        default: return v;
    }
}

// Bias, sum with another tensor and activation of one output value.
__device__ inline void finish(const Conv& c, int frame, int channel, int pixel, float v) {
    v += c.bias[channel];
    if (c.added) {
        long long at = (long long)frame * c.added_frame + (long long)channel * c.added_step;
        float other = number(c.added[at + pixel]);
        v = c.late ? activate(v, c.kind, c.p, c.q) + other : activate(v + other, c.kind, c.p, c.q);
    } else {
        v = activate(v, c.kind, c.p, c.q);
    }
    put(c.y + (long long)frame * c.y_frame + (long long)channel * c.y_step + pixel, v);
}

// What one thread gathers for its output pixel: the value number `at` of the pixel's sum.
template <int SIDE>
struct Gather {
    const Conv& c;
    const input_t* x;
    int top, left, depth;
    bool inside;

    __device__ Gather(const Conv& c, int pixel, int frame, int group) : c(c) {
        x = c.x + (long long)frame * c.x_frame + (long long)group * c.in_c * c.x_step;
        top = pixel / c.out_w * c.stride_h - c.pad_h;
        left = pixel % c.out_w * c.stride_w - c.pad_w;
        depth = c.in_c * c.kh * c.kw;
        inside = pixel < c.out_h * c.out_w;
    }
    __device__ input_t operator()(int at) const {
        int kh = SIDE ? SIDE : c.kh, kw = SIDE ? SIDE : c.kw;
        int channel = at / (kh * kw), rest = at % (kh * kw);
        int y = top + rest / kw * c.dilation_h, x_ = left + rest % kw * c.dilation_w;
        bool real = inside && at < depth && y >= 0 && y < c.in_h && x_ >= 0 && x_ < c.in_w;
        return real ? x[(long long)channel * c.x_step + y * c.in_w + x_] : input_t(0.0f);
    }
};

#ifdef HALF_IN
// Four warps, each WARP_M x WARP_N of the block's M x N; K values of each sum at a time.
template <int M, int N, int SIDE>
__device__ void convolve(const Conv& c) {
    using namespace nvcuda;
    constexpr int K = 32, A_STEP = K + 8, B_STEP = N + 8, C_STEP = N + 4;
    constexpr int ROWS = M >= 32 && N < 64 ? 2 : M >= 64 ? 2 : 1, COLUMNS = 4 / ROWS;
    constexpr int WARP_M = M / ROWS, WARP_N = N / COLUMNS, FM = WARP_M / 16, FN = WARP_N / 16;
    constexpr int TILES = (M * A_STEP + K * B_STEP) * 2, SUMS = M * C_STEP * 4;
    // the sums take the tiles' place when these are used up
    __align__(32) __shared__ char memory[TILES > SUMS ? TILES : SUMS];
    __half* a = reinterpret_cast<__half*>(memory);
    __half* b = a + M * A_STEP;
    float* sums = reinterpret_cast<float*>(memory);

    int t = threadIdx.x, warp = t / 32, frame = blockIdx.z / c.groups;
    int group = blockIdx.z - frame * c.groups;
    int first_m = blockIdx.y * M, first_n = blockIdx.x * N;
    int row = warp / COLUMNS * WARP_M, column = warp % COLUMNS * WARP_N;
    const __half* w = c.w + (long long)group * c.out_c * c.w_step;
    Gather<SIDE> gather(c, first_n + t % N, frame, group);
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum[FM][FN];
    for (int i = 0; i < FM; ++i)
        for (int j = 0; j < FN; ++j) wmma::fill_fragment(sum[i][j], 0.0f);
    for (int k0 = 0; k0 < gather.depth; k0 += K) {
        for (int i = t; i < M * K / 8; i += 128) {
            int m = i / (K / 8), k = i % (K / 8) * 8;
            uint4 eight = make_uint4(0, 0, 0, 0);
            if (first_m + m < c.out_c)
                eight = *reinterpret_cast<const uint4*>(w + (long long)(first_m + m) * c.w_step + k0 + k);
            *reinterpret_cast<uint4*>(a + m * A_STEP + k) = eight;
        }
        for (int k = t / N; k < K; k += 128 / N) b[k * B_STEP + t % N] = gather(k0 + k);
        __syncthreads();
        for (int k = 0; k < K; k += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa[FM];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb[FN];
            for (int i = 0; i < FM; ++i)
                wmma::load_matrix_sync(fa[i], a + (row + 16 * i) * A_STEP + k, A_STEP);
            for (int j = 0; j < FN; ++j)
                wmma::load_matrix_sync(fb[j], b + k * B_STEP + column + 16 * j, B_STEP);
            for (int i = 0; i < FM; ++i)
                for (int j = 0; j < FN; ++j) wmma::mma_sync(sum[i][j], fa[i], fb[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < FM; ++i)
        for (int j = 0; j < FN; ++j)
            wmma::store_matrix_sync(sums + (row + 16 * i) * C_STEP + column + 16 * j, sum[i][j],
                                    C_STEP, wmma::mem_row_major);
    __syncthreads();
    for (int i = t; i < M * N; i += 128) {
        int m = first_m + i / N, pixel = first_n + i % N;
        if (m < c.out_c && pixel < c.out_h * c.out_w)
            finish(c, frame, group * c.out_c + m, pixel, sums[i / N * C_STEP + i % N]);
    }
}
#else
// Each thread sums a square of outputs; K values of each sum at a time.
template <int M, int N, int SIDE>
__device__ void convolve(const Conv& c) {
    constexpr int K = 16, THREADS = M * N >= 4096 ? 256 : 128, MINE_N = 4;
    constexpr int MINE_M = M * N / THREADS / MINE_N, ACROSS = N / MINE_N;
    __shared__ float a[K][M + 4];
    __shared__ float b[K][N];
    int t = threadIdx.x, frame = blockIdx.z / c.groups, group = blockIdx.z - frame * c.groups;
    int first_m = blockIdx.y * M, first_n = blockIdx.x * N;
    const float* w = c.w + (long long)group * c.out_c * c.w_step;
    Gather<SIDE> gather(c, first_n + t % N, frame, group);
    float sum[MINE_M][MINE_N] = {};
    int my_m = t / ACROSS * MINE_M, my_n = t % ACROSS * MINE_N;
    for (int k0 = 0; k0 < gather.depth; k0 += K) {
        for (int i = t; i < M * K; i += THREADS) {
            int m = i / K, k = i % K;
            a[k][m] = first_m + m < c.out_c ? w[(long long)(first_m + m) * c.w_step + k0 + k] : 0.0f;
        }
        for (int k = t / N; k < K; k += THREADS / N) b[k][t % N] = gather(k0 + k);
        __syncthreads();
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < MINE_M; ++i)
                for (int j = 0; j < MINE_N; ++j) sum[i][j] += a[k][my_m + i] * b[k][my_n + j];
        __syncthreads();
    }
    for (int i = 0; i < MINE_M; ++i)
        for (int j = 0; j < MINE_N; ++j) {
            int m = first_m + my_m + i, pixel = first_n + my_n + j;
            if (m < c.out_c && pixel < c.out_h * c.out_w)
                finish(c, frame, group * c.out_c + m, pixel, sum[i][j]);
        }
}
#endif

extern "C" __global__ void __launch_bounds__(256) conv_64x64_0(Conv c) { convolve<64, 64, 0>(c); }
extern "C" __global__ void __launch_bounds__(256) conv_64x64_1(Conv c) { convolve<64, 64, 1>(c); }
extern "C" __global__ void __launch_bounds__(256) conv_64x64_3(Conv c) { convolve<64, 64, 3>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x64_0(Conv c) { convolve<32, 64, 0>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x64_1(Conv c) { convolve<32, 64, 1>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x64_3(Conv c) { convolve<32, 64, 3>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x32_0(Conv c) { convolve<32, 32, 0>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x32_1(Conv c) { convolve<32, 32, 1>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_32x32_3(Conv c) { convolve<32, 32, 3>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_16x64_0(Conv c) { convolve<16, 64, 0>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_16x64_1(Conv c) { convolve<16, 64, 1>(c); }
extern "C" __global__ void __launch_bounds__(128) conv_16x64_3(Conv c) { convolve<16, 64, 3>(c); }

extern "C" __global__ void __launch_bounds__(256) conv_depthwise(Conv c) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y, frame = blockIdx.z;
    if (pixel >= c.out_h * c.out_w) return;
    int top = pixel / c.out_w * c.stride_h - c.pad_h, left = pixel % c.out_w * c.stride_w - c.pad_w;
    const input_t* plane = c.x + (long long)frame * c.x_frame + (long long)channel * c.x_step;
    const input_t* weight = c.w + (long long)channel * c.w_step;
    float sum = 0;
    for (int i = 0; i < c.kh; ++i) {
        int y = top + i * c.dilation_h;
        if (y < 0 || y >= c.in_h) continue;
        for (int j = 0; j < c.kw; ++j) {
            int x = left + j * c.dilation_w;
            if (x >= 0 && x < c.in_w) sum += number(plane[y * c.in_w + x]) * number(weight[i * c.kw + j]);
        }
    }
    finish(c, frame, channel, pixel, sum);
}
