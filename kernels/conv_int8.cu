// Convolutions of bytes, and what is done element by element where some of the tensors are bytes.
//
// Purpose    dense, depthwise: y = act(x * w + bias [+ added]), looked up in a table where there is
//            one, and then [+ added] if `late`; up to MOST of one kind in a launch
//            mixed: y = act(a) or act(a op b), looked up where there is a table
// Types      x and w bytes, their products summed in int, which is exact: on tensor cores (WMMA) but
//            for depthwise ones; y, `also`, `added`, a and b: float, half or bytes (FLOAT, HALF, BYTE)
// Rounding   the byte q of a tensor is the number (q - zero) * scale; to bytes half to even, then cut
//            off to -128 .. 127, as QuantizeLinear of ONNX
//            table: (256) floats; a number becomes that of its byte, for t_scale and t_zero, plus 128
// Layout     distances as in conv.cu; `width`: 16 or 8 channels of a pixel of x are a piece that begins
//            at a multiple of it, and in_c is one, always so with -DWIDE; 1: they lie anyhow
//            w: (out, kh, kw, in), rows w_step apart, a multiple of K, filled up with zeros;
//            depthwise: (kh, kw, channels)
//            ends: for each output channel the scale of its sums, its bias, and what is added to the
//            sum first: -zero of x * sum of w (depthwise: 0)
// Convention output pixel (oy, ox) sees input (oy * stride - pad + k * dilation); outside is the
//            number 0, which is x's byte `zero`
// Grid       x: the blocks of each convolution after those of the one before it (`first`)
//            dense_MxN: a block of 128 for N output pixels, M output channels of a group; of all
//            pixels, then channels, groups, frames
//            depthwise: a block of 256 for 256 values of y, or for 1024 where width is not 1
//            mixed: one thread an element of y; block 256
// Twin       tests/cuda/step_twins.py: convolved, result

#include <cuda_fp16.h>
#include <mma.h>

typedef signed char s8;
enum { FLOAT, HALF, BYTE };

struct End {
    float scale, bias;
    int start, unused;
};

// one group is in_c to out_c channels; as CONV in app/cuda/native/launch_int8.py
struct Conv {
    const s8 *x, *w;
    const End* ends;
    const float* table;
    const void* added;
    void *y, *also;
    int in_c, in_h, in_w, x_step, x_pixel, x_frame;
    int out_c, out_h, out_w, y_step, y_pixel, y_frame;
    int added_step, added_pixel, added_frame, also_step, also_pixel, also_frame, also_h, also_w;
    int kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int frames, w_step, groups, kind, late, zero, width, added_type, y_type;
    float p, q, t_scale, t_zero, added_scale, added_zero, y_scale, y_zero;
};

enum { MOST = 16 };
struct Group {
    Conv members[MOST];
    int first[MOST];  // blocks before those of each
    int count;
};

#include "activate.cuh"
#include "blocks.cuh"
enum { ADD, SUB, MUL, DIV };

__device__ inline int rounded(float v, float scale, float zero) {
    return (int)fminf(fmaxf(rintf(v / scale) + zero, -128.0f), 127.0f);
}

__device__ inline float load(const void* from, long long i, int type, float scale, float zero) {
    if (type == BYTE) return (static_cast<const s8*>(from)[i] - zero) * scale;
    if (type == HALF) return __half2float(static_cast<const __half*>(from)[i]);
    return static_cast<const float*>(from)[i];
}

__device__ inline void store(void* to, long long i, float v, int type, float scale, float zero) {
    if (type == BYTE) static_cast<s8*>(to)[i] = (s8)rounded(v, scale, zero);
    else if (type == HALF) static_cast<__half*>(to)[i] = __float2half(v);
    else static_cast<float*>(to)[i] = v;
}

// One output value from its sum.
__device__ inline void finish(const Conv& c, int frame, int channel, int pixel, int sum) {
    End end = c.ends[channel];
    float v = (sum + end.start) * end.scale + end.bias, other = 0;
    if (c.added)
        other = load(c.added, place(frame, channel, pixel, c.added_frame, c.added_step, c.added_pixel),
                     c.added_type, c.added_scale, c.added_zero);
    if (!c.late) v += other;
    v = activate(v, c.kind, c.p, c.q);
    if (c.table) v = c.table[rounded(v, c.t_scale, c.t_zero) + 128];
    if (c.late) v += other;
    store(c.y, place(frame, channel, pixel, c.y_frame, c.y_step, c.y_pixel), v, c.y_type, c.y_scale,
          c.y_zero);
    if (!c.also) return;
    int across = c.out_w * c.also_w, y = pixel / c.out_w * c.also_h, x = pixel % c.out_w * c.also_w;
    for (int i = 0; i < c.also_h * c.also_w; ++i) {
        int to = (y + i / c.also_w) * across + x + i % c.also_w;
        store(c.also, place(frame, channel, to, c.also_frame, c.also_step, c.also_pixel), v, c.y_type,
              c.y_scale, c.y_zero);
    }
}

// The part of the input that an output pixel sees; beyond the last pixel there is none.
struct Window {
    int top, left;
    Window() = default;
    __device__ Window(const Conv& c, int pixel) {
        bool real = pixel < c.out_h * c.out_w;
        top = real ? pixel / c.out_w * c.stride_h - c.pad_h : -(1 << 24);
        left = pixel % c.out_w * c.stride_w - c.pad_w;
    }
    // Where the pixel under a tap lies, in bytes; -1: outside.
    __device__ int at(const Conv& c, int ty, int tx) const {
        int y = top + ty * c.dilation_h, x = left + tx * c.dilation_w;
        bool real = ty < c.kh && (unsigned)y < (unsigned)c.in_h && (unsigned)x < (unsigned)c.in_w;
        return real ? (y * c.in_w + x) * c.x_pixel : -1;
    }
};

// Value k of a pixel's sum: of which tap and channel.
struct Value {
    int channel, ty, tx;
    __device__ Value(const Conv& c, int k) {
        int tap = k / c.in_c;
        channel = k - tap * c.in_c, ty = tap / c.kw, tx = tap - ty * c.kw;
    }
    __device__ void advance(const Conv& c, int count) {
        channel += count;
        while (channel >= c.in_c) {
            channel -= c.in_c;
            if (++tx == c.kw) tx = 0, ++ty;
        }
    }
};

// 16 or 8 bytes to shared memory, on their way until `arrived`.
template <int BYTES>
__device__ inline void copy(s8* to, const s8* from) {
#ifdef CUDASIM
    __pipeline_memcpy_async(to, from, BYTES);
#elif __CUDA_ARCH__ >= 800
    unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared), "l"(from), "n"(BYTES));
#else
    for (int i = 0; i < BYTES; i += 8)
        *reinterpret_cast<uint2*>(to + i) = *reinterpret_cast<const uint2*>(from + i);
#endif
}
// The same of values of a pixel's sum; where `at` is -1, of what is outside.
template <int BYTES>
__device__ inline void piece(s8* to, const s8* x, int at, int channel, unsigned outside) {
    if (at >= 0) copy<BYTES>(to, x + at + channel);
    else if (BYTES == 8) *reinterpret_cast<uint2*>(to) = make_uint2(outside, outside);
    else *reinterpret_cast<uint4*>(to) = make_uint4(outside, outside, outside, outside);
}

// Four warps, each WARP_M x WARP_N of the block's M x N; K values of each sum at a time, in slabs of
// 16: a slab is the 16 bytes of each row, one row after the other, as a tile of WMMA reads them.
template <int M, int N>
__device__ void convolve(const Group& g) {
    using namespace nvcuda;
    constexpr int K = 64, SLABS = K / 16, STAGES = 3;
    constexpr int A_SLAB = M * 16 + 32, B_SLAB = N * 16 + 32, STAGE = SLABS * (A_SLAB + B_SLAB);
    constexpr int ROWS = M >= 64 || (M >= 32 && N < 64) ? 2 : 1, COLUMNS = 4 / ROWS;
    constexpr int WARP_M = M / ROWS, WARP_N = N / COLUMNS, FM = WARP_M / 16, FN = WARP_N / 16;
    constexpr int RING = STAGES * STAGE, SUM_STEP = M + 4, SUMS = N * SUM_STEP * 4, LINES = N / 32;
    // the sums take the ring's place when it is used up
    __align__(32) __shared__ s8 ring[RING > SUMS ? RING : SUMS];
    int* sums = reinterpret_cast<int*>(ring);

    int block, t = threadIdx.x, warp = t / 32;
    const Conv& c = member(g, block);
    int pixels = c.out_h * c.out_w, across = (pixels + N - 1) / N, down = (c.out_c + M - 1) / M;
    int first_n = block % across * N, first_m = block / across % down * M;
    int group = block / (across * down) % c.groups, frame = block / (across * down) / c.groups;
    int row = warp / COLUMNS * WARP_M, column = warp % COLUMNS * WARP_N;
    int steps = (c.in_c * c.kh * c.kw + K - 1) / K;
    const s8* w = c.w + (long long)(group * c.out_c + first_m) * c.w_step;
    const s8* x = c.x + (long long)frame * c.x_frame + (long long)group * c.in_c * c.x_step;
    unsigned outside = (c.zero & 255) * 0x01010101u;
    int line = t / 4, slab = t % 4;  // of 32 lines of K values, each in four pieces
    Window windows[LINES];
#pragma unroll
    for (int i = 0; i < LINES; ++i) windows[i] = Window(c, first_n + i * 32 + line);

#ifdef WIDE
    Value first(c, slab * 16), second(c, slab * 16 + 8);
#endif
    auto fetch = [&](int step, int stage) {
        s8 *a = ring + stage * STAGE + slab * A_SLAB, *b = ring + stage * STAGE + SLABS * A_SLAB + slab * B_SLAB;
        int k = step * K + slab * 16;
#pragma unroll
        for (int i = 0; i < M; i += 32) {
            int m = i + line;
            if (m >= M) continue;
            if (first_m + m < c.out_c) copy<16>(a + m * 16, w + (long long)m * c.w_step + k);
            else *reinterpret_cast<uint4*>(a + m * 16) = make_uint4(0, 0, 0, 0);
        }
#ifdef WIDE
        if (c.width == 16) {
#pragma unroll
            for (int i = 0; i < LINES; ++i)
                piece<16>(b + (i * 32 + line) * 16, x, windows[i].at(c, first.ty, first.tx), first.channel,
                          outside);
        } else {
#pragma unroll
            for (int i = 0; i < LINES; ++i) {
                s8* to = b + (i * 32 + line) * 16;
                piece<8>(to, x, windows[i].at(c, first.ty, first.tx), first.channel, outside);
                piece<8>(to + 8, x, windows[i].at(c, second.ty, second.tx), second.channel, outside);
            }
            second.advance(c, K);
        }
        first.advance(c, K);
#else
        for (int j = 0; j < 16; ++j) {
            Value value(c, k + j);
#pragma unroll
            for (int i = 0; i < LINES; ++i) {
                int at = windows[i].at(c, value.ty, value.tx);
                b[(i * 32 + line) * 16 + j] = at < 0 ? (s8)c.zero : x[at + value.channel * c.x_step];
            }
        }
#endif
    };
    wmma::fragment<wmma::accumulator, 16, 16, 16, int> sum[FM][FN];
#pragma unroll
    for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j) wmma::fill_fragment(sum[i][j], 0);
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) fetch(s, s);
        staged();
    }
    for (int s = 0; s < steps; ++s) {
        arrived<STAGES - 2>();
        __syncthreads();  // all see this stage, and are done with the one that is filled next
        if (s + STAGES - 1 < steps) fetch(s + STAGES - 1, (s + STAGES - 1) % STAGES);
        staged();
        const s8 *a = ring + s % STAGES * STAGE, *b = a + SLABS * A_SLAB;
#pragma unroll
        for (int k = 0; k < SLABS; ++k) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, s8, wmma::row_major> fa[FM];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, s8, wmma::col_major> fb[FN];
#pragma unroll
            for (int i = 0; i < FM; ++i)
                wmma::load_matrix_sync(fa[i], a + k * A_SLAB + (row + 16 * i) * 16, 16);
#pragma unroll
            for (int j = 0; j < FN; ++j)
                wmma::load_matrix_sync(fb[j], b + k * B_SLAB + (column + 16 * j) * 16, 16);
#pragma unroll
            for (int i = 0; i < FM; ++i)
#pragma unroll
                for (int j = 0; j < FN; ++j) wmma::mma_sync(sum[i][j], fa[i], fb[j], sum[i][j]);
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j)
            wmma::store_matrix_sync(sums + (column + 16 * j) * SUM_STEP + row + 16 * i, sum[i][j],
                                    SUM_STEP, wmma::mem_col_major);
    __syncthreads();
    bool channels_last = c.y_step == 1;  // neighbours write to neighbours
    for (int i = t; i < M * N; i += 128) {
        int m = channels_last ? i % M : i / N, n = channels_last ? i / M : i % N;
        if (first_m + m < c.out_c && first_n + n < pixels)
            finish(c, frame, group * c.out_c + first_m + m, first_n + n, sums[n * SUM_STEP + m]);
    }
}

#define G const __grid_constant__ Group g
extern "C" __global__ void __launch_bounds__(128, 4) dense_64x64(G) { convolve<64, 64>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_32x64(G) { convolve<32, 64>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_32x32(G) { convolve<32, 32>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_16x64(G) { convolve<16, 64>(g); }

extern "C" __global__ void __launch_bounds__(256) depthwise(G) {
    int block;
    const Conv& c = member(g, block);
    int i = block * blockDim.x + threadIdx.x, pixels = c.out_h * c.out_w;
    int together = c.width > 1 ? 4 : 1, parts = c.groups / together;
    int channel = i % parts * together, pixel = i / parts % pixels, frame = i / parts / pixels;
    if (frame >= c.frames) return;
    const s8* x = c.x + (long long)frame * c.x_frame + (long long)channel * c.x_step;
    Window window(c, pixel);
    int sums[4] = {};
    for (int ty = 0; ty < c.kh; ++ty)
        for (int tx = 0; tx < c.kw; ++tx) {
            int at = window.at(c, ty, tx);
            if (at < 0) continue;
            const s8* w = c.w + (ty * c.kw + tx) * c.w_step + channel;
            if (together == 1) {
                sums[0] += (x[at] - c.zero) * w[0];
                continue;
            }
            char4 v = *reinterpret_cast<const char4*>(x + at), u = *reinterpret_cast<const char4*>(w);
            sums[0] += (v.x - c.zero) * u.x, sums[1] += (v.y - c.zero) * u.y;
            sums[2] += (v.z - c.zero) * u.z, sums[3] += (v.w - c.zero) * u.w;
        }
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if (k < together) finish(c, frame, channel + k, pixel, sums[k]);
}

extern "C" __global__ void __launch_bounds__(256)
    mixed(const void* a, const void* b, void* y, const float* table, int count, int s1, int s2, int s3,
          int s4, int s5, int a0, int a1, int a2, int a3, int a4, int a5, int b0, int b1, int b2, int b3,
          int b4, int b5, int y0, int y1, int y2, int y3, int y4, int y5, int a_type, int b_type,
          int y_type, int op, int kind, float p, float q, float a_scale, float a_zero, float b_scale,
          float b_zero, float y_scale, float y_zero, float t_scale, float t_zero) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    int i5 = i % s5, i4 = i / s5 % s4, i3 = i / (s5 * s4) % s3, rest = i / (s5 * s4 * s3);
    int i2 = rest % s2, i1 = rest / s2 % s1, i0 = rest / (s2 * s1);
    float v = load(a, i0 * a0 + i1 * a1 + i2 * a2 + i3 * a3 + i4 * a4 + i5 * a5, a_type, a_scale, a_zero);
    if (b) {
        float u = load(b, i0 * b0 + i1 * b1 + i2 * b2 + i3 * b3 + i4 * b4 + i5 * b5, b_type, b_scale, b_zero);
        v = op == ADD ? v + u : op == SUB ? v - u : op == MUL ? v * u : v / u;
    }
    v = kind == SQRT ? sqrtf(v) : activate(v, kind, p, q);
    if (table) v = table[rounded(v, t_scale, t_zero) + 128];
    store(y, i0 * y0 + i1 * y1 + i2 * y2 + i3 * y3 + i4 * y4 + i5 * y5, v, y_type, y_scale, y_zero);
}
