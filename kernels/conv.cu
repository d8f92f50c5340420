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
//            dense ones: `parts` blocks, one after the other, share the sums of a convolution
//            depthwise: a block for 256 values of y, with EIGHT for 8 times as many; block 256
// Twin       tests/cuda/step_twins.py: convolved

#include "activate.cuh"
#include "blocks.cuh"
#include "conv_common.cuh"
#include "conv_input.cuh"

#ifdef HALF_IN
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
    Steps<FUSED, K> steps(c, part.slice);
    const __half* w = c.w + (long long)(part.group * c.out_c + part.first_m) * c.w_step;
    const __half* x = c.x + (long long)part.frame * c.x_frame + (long long)part.group * c.in_c * c.x_step;
    int line = t / 4, eighth = t % 4 * 8;  // of 32 lines of K values, each in four pieces

#ifdef EIGHT
    constexpr int LINES = N / 32;
    Cursor cursor(c, steps.begin * K + eighth);
    Window windows[LINES];
#pragma unroll
    for (int i = 0; i < LINES; ++i) windows[i] = Window(c, part.first_n + i * 32 + line);
    // of a fused one each thread computes some eighths of one pixel
    int pixel = t / (4 / LINES), channel = t % (4 / LINES) * LINES * 8;
    Taps taps(c, x, part.first_n + pixel);
#else
    Gather<FUSED, 128 / N> gather(c, x, part.first_n + t % N, steps.begin * K + t / N);
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
    for (int s = steps.begin; s < steps.begin + STAGES - 1; ++s) {
        if (s < steps.end) fetch(s * K, s % STAGES);
        staged();
    }
    for (int s = steps.begin; s < steps.end; ++s) {
        arrived<STAGES - 2>();
        __syncthreads();  // all see this stage, and are done with the one that is filled next
        if (s + STAGES - 1 < steps.end) fetch((s + STAGES - 1) * K, (s + STAGES - 1) % STAGES);
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
    if (FUSED || added_up<M, N>(g, c.parts, part.slice, sums)) finish(c, part, sums);
}
#else
// Each thread sums a square of outputs; K values of each sum at a time.
template <int M, int N, bool FUSED>
__device__ void convolve(const Group& g) {
    constexpr int K = 16, THREADS = M * N >= 4096 ? 256 : 128, MINE_N = 4;
    constexpr int MINE_M = M * N / THREADS / MINE_N, ACROSS = N / MINE_N;
    constexpr int TILES = K * (M + 4 + N), SUM_STEP = Part<M, N>::STEP, SUMS = N * SUM_STEP;
    // the sums take the tiles' place when these are used up
    __align__(16) __shared__ float memory[TILES > SUMS ? TILES : SUMS];
    auto a = reinterpret_cast<float(*)[M + 4]>(memory);
    auto b = reinterpret_cast<float(*)[N]>(memory + K * (M + 4));
    int block, t = threadIdx.x;
    const Conv& c = member(g, block);
    Part<M, N> part(c, block);
    const float* w = c.w + (long long)(part.group * c.out_c + part.first_m) * c.w_step;
    const float* x = c.x + (long long)part.frame * c.x_frame + (long long)part.group * c.in_c * c.x_step;
    Steps<FUSED, K> steps(c, part.slice);
    Gather<FUSED, THREADS / N> gather(c, x, part.first_n + t % N, steps.begin * K + t / N);
    float sum[MINE_M][MINE_N] = {};
    int my_m = t / ACROSS * MINE_M, my_n = t % ACROSS * MINE_N;
    for (int k0 = steps.begin * K; k0 < steps.end * K; k0 += K) {
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
    if (FUSED || added_up<M, N>(g, c.parts, part.slice, memory)) finish(c, part, memory);
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
