// Convolutions, up to MOST of one kind in a launch: each one matrix product (implicit GEMM).
//
// Purpose    y = act(x * w + bias [+ added]), or act(x * w + bias) + added (`late`); `fused`: of a 1 x 1
//            one whose x goes through a depthwise 3 x 3 one first, computed where it is needed
// Types      x and w float, or half with -DHALF_IN: then the products are of the tensor cores (WMMA),
//            summed in float, but the three of a row of a depthwise 3 x 3 window in half;
//            y, `also` and `added` float, or half with -DHALF_OUT
// Layout     a pixel of x lies `x_pixel` after its neighbour, rows without gaps, channels `x_step`,
//            frames `x_frame` apart; so for y, `added` (or null), and `also` (or null): y again, each
//            pixel repeated over `also_h` x `also_w`
//            w: (out, kh, kw, in), rows `w_step` apart (a multiple of 32), filled up with zeros;
//            depthwise and `first_w`: (kh, kw, channels); bias: float, (out)
//            -DEIGHT: x_step 1, and in, x_pixel, x_frame multiples of 8; `wide`: so are out and all of
//            y, `added` and `also`, always so for depthwise ones; `first_w`: (channels / 8, 3, 3, 8),
//            and in at least 16
// Convention output pixel (oy, ox) sees input (oy * stride - pad + k * dilation); outside is 0
// Ring       in half precision three stages of K values: while one is multiplied, the next two are on
//            their way (asynchronous copies of 16 bytes from sm_80 on)
// Grid       x: the blocks of each convolution after those of the one before it (`first`)
//            dense_MxN, fused_MxN: a block for N output pixels, M output channels of a group; of all
//            pixels, then channels, groups, frames; block 256 where M = N = 64 in float, else 128
//            depthwise: a block for 256 values of y, with EIGHT for 8 times as many; block 256
// Twin       tests/cuda/step_twins.py: convolved

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
    int frames, w_step, groups, kind, first_kind, late, wide;
    float p, q, first_p, first_q;
};

enum { MOST = 16 };
struct Group {
    Conv members[MOST];
    int first[MOST];  // blocks before those of each
    int count;
};

enum { NONE, CLIP, LEAKY, EXP, SIGMOID, SILU, HARDSIGMOID, HARDSILU, ERF };

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
        case ERF: return erff(v);
        default: return v;
    }
}

// Which convolution this block works for, and which of its blocks it is.
__device__ inline const Conv& member(const Group& g, int& block) {
    int i = 0;
    while (i + 1 < g.count && (int)blockIdx.x >= g.first[i + 1]) ++i;
    block = blockIdx.x - g.first[i];
    return g.members[i];
}

// One output value from its sum: bias, activation, and the other tensor's value (0: there is none).
__device__ inline float finished(const Conv& c, int channel, float v, float other) {
    v += c.bias[channel];
    if (!c.late) v += other;
    v = activate(v, c.kind, c.p, c.q);
    return c.late ? v + other : v;
}

// Where a value lies in a tensor whose parts have these distances.
__device__ inline long long place(int frame, int channel, int pixel, int x_frame, int step, int of_pixel) {
    return (long long)frame * x_frame + channel * step + pixel * of_pixel;
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

// The part of the input that an output pixel sees; beyond the last pixel there is none.
struct Window {
    int top, left;
    Window() = default;
    __device__ Window(const Conv& c, int pixel) {
        bool real = pixel < c.out_h * c.out_w;
        top = real ? pixel / c.out_w * c.stride_h - c.pad_h : -(1 << 24);
        left = pixel % c.out_w * c.stride_w - c.pad_w;
    }
    // Where the pixel under a tap lies, in elements; -1: outside.
    __device__ int at(const Conv& c, int ty, int tx) const {
        int y = top + ty * c.dilation_h, x = left + tx * c.dilation_w;
        bool real = (unsigned)y < (unsigned)c.in_h && (unsigned)x < (unsigned)c.in_w;
        return real ? (y * c.in_w + x) * c.x_pixel : -1;
    }
};

// The sum of one channel over a window; weights of neighbouring taps lie w_step apart.
__device__ inline float window_sum(const Conv& c, const Window& window, const input_t* x,
                                  const input_t* w, int w_step) {
    float sum = 0;
    for (int i = 0; i < c.kh; ++i)
        for (int j = 0; j < c.kw; ++j) {
            int at = window.at(c, i, j);
            if (at >= 0) sum += number(x[at]) * number(w[(i * c.kw + j) * w_step]);
        }
    return sum;
}

// Walks over the values of a pixel's sum: channels of a tap, then the next tap.
struct Cursor {
    int channel = 0, ty = 0, tx = 0;
    __device__ Cursor(const Conv& c, int start) { advance(c, start); }
    __device__ void advance(const Conv& c, int count) {
        channel += count;
        while (channel >= c.in_c) {
            channel -= c.in_c;
            if (++tx == c.kw) tx = 0, ++ty;
        }
    }
};

// What one thread gathers for its pixel: each STEP-th value of the sum, in order.
template <bool FUSED, int STEP>
struct Gather {
    const Conv& c;
    const input_t* x;
    Window window;
    Cursor cursor;
    __device__ Gather(const Conv& c, const input_t* x, int pixel, int start)
        : c(c), x(x), window(c, pixel), cursor(c, start) {}
    __device__ input_t next() {
        int channel = cursor.channel, ty = cursor.ty, tx = cursor.tx;
        cursor.advance(c, STEP);
        if (FUSED) {
            if (ty || tx) return input_t(0.0f);
            const input_t *from = x + channel * c.x_step, *w = c.first_w + channel;
            float v = window_sum(c, window, from, w, c.in_c) + c.first_bias[channel];
            return input_t(activate(v, c.first_kind, c.first_p, c.first_q));
        }
        int at = ty < c.kh ? window.at(c, ty, tx) : -1;
        return at < 0 ? input_t(0.0f) : x[at + channel * c.x_step];
    }
};

// Which part of y a block computes; its sums: N pixels of M channels, STEP apart.
template <int M, int N>
struct Part {
    enum { STEP = M + 4 };
    int frame, group, first_m, first_n, pixels;
    __device__ Part(const Conv& c, int block) {
        pixels = c.out_h * c.out_w;
        int across = (pixels + N - 1) / N, down = (c.out_c + M - 1) / M;
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

#ifdef HALF_IN
// 16 bytes to shared memory, on their way until `arrived`; zeros where there is nothing real.
__device__ inline void copy16(void* to, const void* from, bool real) {
#ifdef CUDASIM
    __pipeline_memcpy_async(to, from, 16, real ? 0 : 16);
#elif __CUDA_ARCH__ >= 800
    unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from),
                 "r"(real ? 16 : 0));
#else
    *reinterpret_cast<uint4*>(to) =
        real ? *reinterpret_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#endif
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

#ifdef EIGHT
// Good to some millionths, and quicker than SILU above, which cares for the tiniest numbers too.
__device__ inline float quick_silu(float v) {
#ifdef CUDASIM
    return v / (1.0f + expf(-v));
#else
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(v * -1.44269504f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(power + 1.0f));
    return v * power;
#endif
}

// The activations that follow a depthwise convolution (BEFORE in app/cuda/native/fuse.py); which one
// it is, is asked once for all values.
template <int COUNT>
__device__ inline void activate_all(float (&v)[COUNT], int kind, float p, float q) {
#pragma unroll
    for (int k = 0; kind == SILU && k < COUNT; ++k) v[k] = quick_silu(v[k]);
#pragma unroll
    for (int k = 0; kind == HARDSILU && k < COUNT; ++k) v[k] *= __saturatef(v[k] * p + q);
#pragma unroll
    for (int k = 0; kind == CLIP && k < COUNT; ++k) v[k] = v[k] < p ? p : v[k] > q ? q : v[k];
}

// The 3 x 3 taps that an output pixel sees: where the first lies, and a bit for each that is inside.
struct Taps {
    const __half* first;
    unsigned inside = 0;
    __device__ Taps(const Conv& c, const __half* x, int pixel) : first(x) {
        Window window(c, pixel);
        for (int k = 0; k < 9; ++k)
            inside |= (window.at(c, k / 3, k % 3) >= 0 ? 1u : 0u) << k;
        if (inside) first += (window.top * c.in_w + window.left) * c.x_pixel;
    }
};

// EIGHTS times 8 channels of a pixel after the depthwise convolution. What there is to find out of a
// tap is found out once for all of them. Beyond the last channels there are these once more: their
// weights in what follows are zeros.
template <int EIGHTS>
__device__ inline void depthwise_part(const Conv& c, const Taps& taps, int channel, Eight* found) {
    int first = min(channel, c.in_c - EIGHTS * 8);
    const __half *x = taps.first + first, *w = c.first_w + first * 9;
    int down = c.dilation_h * c.in_w * c.x_pixel, right = c.dilation_w * c.x_pixel;
    float sums[EIGHTS * 8];
#pragma unroll
    for (int k = 0; k < EIGHTS * 8; k += 4)
        *reinterpret_cast<float4*>(sums + k) =
            *reinterpret_cast<const float4*>(c.first_bias + first + k);
#pragma unroll
    for (int ty = 0; ty < 3; ++ty) {
        __half2 row[EIGHTS * 4];
#pragma unroll
        for (int k = 0; k < EIGHTS * 4; ++k) row[k] = __floats2half2_rn(0, 0);
#pragma unroll
        for (int tx = 0; tx < 3; ++tx) {
            if (!(taps.inside >> (ty * 3 + tx) & 1)) continue;
#pragma unroll
            for (int i = 0; i < EIGHTS; ++i) {
                Eight v(x + ty * down + tx * right + i * 8), weights(w + (i * 9 + ty * 3 + tx) * 8);
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    row[i * 4 + k] = __hfma2(v.pair(k), weights.pair(k), row[i * 4 + k]);
            }
        }
#pragma unroll
        for (int k = 0; k < EIGHTS * 4; ++k) {
            float2 pair = __half22float2(row[k]);
            sums[2 * k] += pair.x, sums[2 * k + 1] += pair.y;
        }
    }
    activate_all(sums, c.first_kind, c.first_p, c.first_q);
#pragma unroll
    for (int k = 0; k < EIGHTS * 8; ++k) put(found[k / 8].values + k % 8, sums[k]);
    if (channel == first + 8) found[0] = found[EIGHTS - 1];
}
#endif

// Four warps, each WARP_M x WARP_N of the block's M x N; K values of each sum at a time.
template <int M, int N, bool FUSED>
__device__ void convolve(const Group& g) {
    using namespace nvcuda;
    constexpr int K = 32, STEP = K + 8, STAGES = 3, STAGE = (M + N) * STEP;
    constexpr int ROWS = M >= 32 && N < 64 ? 2 : M >= 64 ? 2 : 1, COLUMNS = 4 / ROWS;
    constexpr int WARP_M = M / ROWS, WARP_N = N / COLUMNS, FM = WARP_M / 16, FN = WARP_N / 16;
    constexpr int RING = STAGES * STAGE * 2, SUM_STEP = Part<M, N>::STEP, SUMS = N * SUM_STEP * 4;
    // the sums take the ring's place when it is used up
    __align__(32) __shared__ char memory[RING > SUMS ? RING : SUMS];
    __half* ring = reinterpret_cast<__half*>(memory);
    float* sums = reinterpret_cast<float*>(memory);

    int block, t = threadIdx.x, warp = t / 32;
    const Conv& c = member(g, block);
    Part<M, N> part(c, block);
    int row = warp / COLUMNS * WARP_M, column = warp % COLUMNS * WARP_N;
    int depth = FUSED ? c.in_c : c.in_c * c.kh * c.kw, steps = (depth + K - 1) / K;
    const __half* w = c.w + (long long)(part.group * c.out_c + part.first_m) * c.w_step;
    const __half* x = c.x + (long long)part.frame * c.x_frame + (long long)part.group * c.in_c * c.x_step;
    int line = t / 4, eighth = t % 4 * 8;  // of 32 lines of K values, each in four pieces

#ifdef EIGHT
    constexpr int LINES = N / 32;
    Cursor cursor(c, eighth);
    Window windows[LINES];
#pragma unroll
    for (int i = 0; i < LINES; ++i) windows[i] = Window(c, part.first_n + i * 32 + line);
    // of a fused one each thread computes some eighths of one pixel
    int pixel = t / (4 / LINES), channel = t % (4 / LINES) * LINES * 8;
    Taps taps(c, x, part.first_n + pixel);
#else
    Gather<FUSED, 128 / N> gather(c, x, part.first_n + t % N, t / N);
#endif
    auto fetch = [&](int k0, int stage) {
        __half *a = ring + stage * STAGE, *b = a + M * STEP;
#pragma unroll
        for (int i = 0; i < M; i += 32) {
            int m = i + line;
            if (m < M) copy16(a + m * STEP + eighth, w + (long long)m * c.w_step + k0 + eighth,
                              part.first_m + m < c.out_c);
        }
#ifdef EIGHT
        if constexpr (FUSED) {
            Eight found[LINES];
            depthwise_part<LINES>(c, taps, k0 + channel, found);
#pragma unroll
            for (int i = 0; i < LINES; ++i) found[i].to(b + pixel * STEP + channel + i * 8);
        } else {
#pragma unroll
            for (int i = 0; i < LINES; ++i) {
                int at = cursor.ty < c.kh ? windows[i].at(c, cursor.ty, cursor.tx) : -1;
                copy16(b + (i * 32 + line) * STEP + eighth, x + (at < 0 ? 0 : at + cursor.channel),
                       at >= 0);
            }
            cursor.advance(c, K);
        }
#else
#pragma unroll 4
        for (int k = t / N; k < K; k += 128 / N) b[t % N * STEP + k] = gather.next();
#endif
    };
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum[FM][FN];
#pragma unroll
    for (int i = 0; i < FM; ++i)
#pragma unroll
        for (int j = 0; j < FN; ++j) wmma::fill_fragment(sum[i][j], 0.0f);
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < steps) fetch(s * K, s);
        staged();
    }
    for (int s = 0; s < steps; ++s) {
        arrived<STAGES - 2>();
        __syncthreads();  // all see this stage, and are done with the one that is filled next
        if (s + STAGES - 1 < steps) fetch((s + STAGES - 1) * K, (s + STAGES - 1) % STAGES);
        staged();
        const __half *a = ring + s % STAGES * STAGE, *b = a + M * STEP;
#pragma unroll
        for (int k = 0; k < K; k += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa[FM];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> fb[FN];
#pragma unroll
            for (int i = 0; i < FM; ++i)
                wmma::load_matrix_sync(fa[i], a + (row + 16 * i) * STEP + k, STEP);
#pragma unroll
            for (int j = 0; j < FN; ++j)
                wmma::load_matrix_sync(fb[j], b + (column + 16 * j) * STEP + k, STEP);
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
    finish(c, part, sums);
}
#else
// Each thread sums a square of outputs; K values of each sum at a time.
template <int M, int N, bool FUSED>
__device__ void convolve(const Group& g) {
    constexpr int K = 16, THREADS = M * N >= 4096 ? 256 : 128, MINE_N = 4;
    constexpr int MINE_M = M * N / THREADS / MINE_N, ACROSS = N / MINE_N;
    constexpr int TILES = K * (M + 4 + N), SUM_STEP = Part<M, N>::STEP, SUMS = N * SUM_STEP;
    // the sums take the tiles' place when these are used up
    __shared__ float memory[TILES > SUMS ? TILES : SUMS];
    auto a = reinterpret_cast<float(*)[M + 4]>(memory);
    auto b = reinterpret_cast<float(*)[N]>(memory + K * (M + 4));
    int block, t = threadIdx.x;
    const Conv& c = member(g, block);
    Part<M, N> part(c, block);
    const float* w = c.w + (long long)(part.group * c.out_c + part.first_m) * c.w_step;
    const float* x = c.x + (long long)part.frame * c.x_frame + (long long)part.group * c.in_c * c.x_step;
    Gather<FUSED, THREADS / N> gather(c, x, part.first_n + t % N, t / N);
    float sum[MINE_M][MINE_N] = {};
    int my_m = t / ACROSS * MINE_M, my_n = t % ACROSS * MINE_N;
    int depth = FUSED ? c.in_c : c.in_c * c.kh * c.kw;
    for (int k0 = 0; k0 < depth; k0 += K) {
        for (int i = t; i < M * K; i += THREADS) {
            int m = i / K, k = i % K;
            a[k][m] = part.first_m + m < c.out_c ? w[(long long)m * c.w_step + k0 + k] : 0.0f;
        }
#pragma unroll 4
        for (int k = t / N; k < K; k += THREADS / N) b[k][t % N] = gather.next();
        __syncthreads();
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < MINE_M; ++i)
                for (int j = 0; j < MINE_N; ++j) sum[i][j] += a[k][my_m + i] * b[k][my_n + j];
        __syncthreads();
    }
    for (int i = 0; i < MINE_M; ++i)
        for (int j = 0; j < MINE_N; ++j) memory[(my_n + j) * SUM_STEP + my_m + i] = sum[i][j];
    __syncthreads();
    finish(c, part, memory);
}
#endif

// bounds that leave 128 registers: with fewer, which ptxas chooses otherwise, it spills
#ifdef HALF_IN
enum { LARGE = 128 };
#else
enum { LARGE = 256 };
#endif
#define G const __grid_constant__ Group g
extern "C" __global__ void __launch_bounds__(LARGE, 512 / LARGE) dense_64x64(G) { convolve<64, 64, false>(g); }
extern "C" __global__ void __launch_bounds__(LARGE, 512 / LARGE) fused_64x64(G) { convolve<64, 64, true>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_32x64(G) { convolve<32, 64, false>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) fused_32x64(G) { convolve<32, 64, true>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_32x32(G) { convolve<32, 32, false>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) fused_32x32(G) { convolve<32, 32, true>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) dense_16x64(G) { convolve<16, 64, false>(g); }
extern "C" __global__ void __launch_bounds__(128, 4) fused_16x64(G) { convolve<16, 64, true>(g); }

#ifdef EIGHT
extern "C" __global__ void __launch_bounds__(256) depthwise(G) {
    int block;
    const Conv& c = member(g, block);
    int i = block * blockDim.x + threadIdx.x, eights = c.groups / 8, pixels = c.out_h * c.out_w;
    int channel = i % eights * 8, pixel = i / eights % pixels, frame = i / eights / pixels;
    if (frame >= c.frames) return;
    const __half* x = c.x + (long long)frame * c.x_frame + channel;
    Window window(c, pixel);
    float sums[8] = {};
    for (int ty = 0; ty < c.kh; ++ty)
        for (int tx = 0; tx < c.kw; ++tx) {
            int at = window.at(c, ty, tx);
            if (at < 0) continue;
            Eight v(x + at), w(c.w + (ty * c.kw + tx) * c.w_step + channel);
#pragma unroll
            for (int k = 0; k < 8; ++k) sums[k] += number(v.values[k]) * number(w.values[k]);
        }
#ifdef HALF_OUT
    finish8(c, frame, channel, pixel, sums);
#else
#pragma unroll
    for (int k = 0; k < 8; ++k) finish(c, frame, channel + k, pixel, sums[k]);
#endif
}
#else
extern "C" __global__ void __launch_bounds__(256) depthwise(G) {
    int block;
    const Conv& c = member(g, block);
    int i = block * blockDim.x + threadIdx.x, pixels = c.out_h * c.out_w, values = pixels * c.groups;
    int frame = i / values, rest = i % values;
    bool channels_last = c.y_step == 1;
    int channel = channels_last ? rest % c.groups : rest / pixels;
    int pixel = channels_last ? rest / c.groups : rest % pixels;
    if (frame >= c.frames) return;
    const input_t* x = c.x + (long long)frame * c.x_frame + (long long)channel * c.x_step;
    float sum = window_sum(c, Window(c, pixel), x, c.w + channel, c.w_step);
    finish(c, frame, channel, pixel, sum);
}
#endif
