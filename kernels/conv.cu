// Convolution in float32, as one matrix product a block of output (implicit GEMM).
//
// Purpose    y = act(x * w + bias [+ added]), or act(x * w + bias) + added (`late`).
// Input      x: float, (channels, in_h, in_w); rows and lines without gaps, channels `x_step` apart
//            w: float, (out, in * kh * kw), row-major; bias: float, (out)
//            added: float, as y, channels `added_step` apart; or null
// Output     y: float, (out, out_h, out_w), channels `y_step` apart
// Convention output pixel (oy, ox) sees input (oy * stride - pad + k * dilation); outside is 0
// Grid       conv: x: 64 output pixels, y: 64 output channels of a group, z: group; block 256
//            conv_depthwise: x: 256 output pixels, y: channel; block 256
// Twin       tests/gpu/step_twins.py: convolved

enum { NONE, CLIP, LEAKY, EXP, SIGMOID, SILU, HARDSIGMOID, HARDSILU };

__device__ inline float activate(float v, int kind, float p, float q) {
    switch (kind) {
        case CLIP: return fminf(fmaxf(v, p), q);
        case LEAKY: return v >= 0 ? v : v * p;
        case EXP: return expf(v);
        case SIGMOID: return 1.0f / (1.0f + expf(-v));
        case SILU: return v / (1.0f + expf(-v));
        case HARDSIGMOID: return fminf(fmaxf(v * p + q, 0.0f), 1.0f);
        case HARDSILU: return v * fminf(fmaxf(v * p + q, 0.0f), 1.0f);
        default: return v;
    }
}

__device__ inline float finish(float v, const float* added, long long at, int kind, float p, float q,
                               int late) {
    if (!added) return activate(v, kind, p, q);
    return late ? activate(v, kind, p, q) + added[at] : activate(v + added[at], kind, p, q);
}

// Tile of a block: M output channels, N output pixels, K values of each sum at a time.
enum { M = 64, N = 64, K = 16 };

extern "C" __global__ void __launch_bounds__(256)
    conv(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias,
         const float* __restrict__ added, float* __restrict__ y, int in_c, int in_h, int in_w,
         int x_step, int out_c, int out_h, int out_w, int y_step, int added_step, int kh, int kw,
         int stride_h, int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int kind,
         float p, float q, int late) {
    __shared__ float a[K][M + 4];
    __shared__ float b[K][N];
    int t = threadIdx.x, group = blockIdx.z;
    int first_m = blockIdx.y * M, first_n = blockIdx.x * N;
    int pixels = out_h * out_w, depth = in_c * kh * kw;
    const float* wg = w + (long long)group * out_c * depth;
    const float* xg = x + (long long)group * in_c * x_step;

    // each thread fills one column of b: the same output pixel for all of its values
    int n = t % N, pixel = first_n + n;
    int oy = pixel / out_w, ox = pixel % out_w;
    int top = oy * stride_h - pad_h, left = ox * stride_w - pad_w;
    float sum[4][4] = {};
    int my_m = (t / 16) * 4, my_n = (t % 16) * 4;
    for (int k0 = 0; k0 < depth; k0 += K) {
        for (int i = t; i < M * K; i += 256) {
            int m = i / K, k = i % K;
            bool inside = first_m + m < out_c && k0 + k < depth;
            a[k][m] = inside ? wg[(long long)(first_m + m) * depth + k0 + k] : 0.0f;
        }
        for (int k = t / N; k < K; k += 256 / N) {
            int at = k0 + k, c = at / (kh * kw), rest = at % (kh * kw);
            int iy = top + rest / kw * dilation_h, ix = left + rest % kw * dilation_w;
            bool inside = pixel < pixels && at < depth && iy >= 0 && iy < in_h && ix >= 0 && ix < in_w;
            b[k][n] = inside ? xg[(long long)c * x_step + iy * in_w + ix] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < K; ++k)
            for (int i = 0; i < 4; ++i)
                for (int j = 0; j < 4; ++j) sum[i][j] += a[k][my_m + i] * b[k][my_n + j];
        __syncthreads();
    }
    for (int i = 0; i < 4; ++i) {
        int m = first_m + my_m + i;
        if (m >= out_c) continue;
        int channel = group * out_c + m;
        for (int j = 0; j < 4; ++j) {
            int at = first_n + my_n + j;
            if (at >= pixels) continue;
            float v = sum[i][j] + bias[channel];
            long long other = (long long)channel * added_step + at;
            y[(long long)channel * y_step + at] = finish(v, added, other, kind, p, q, late);
        }
    }
}

extern "C" __global__ void conv_depthwise(
    const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias,
    const float* __restrict__ added, float* __restrict__ y, int in_c, int in_h, int in_w, int x_step,
    int out_c, int out_h, int out_w, int y_step, int added_step, int kh, int kw, int stride_h,
    int stride_w, int pad_h, int pad_w, int dilation_h, int dilation_w, int kind, float p, float q,
    int late) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
    if (pixel >= out_h * out_w) return;
    int top = pixel / out_w * stride_h - pad_h, left = pixel % out_w * stride_w - pad_w;
    const float* plane = x + (long long)channel * x_step;
    const float* weight = w + channel * kh * kw;
    float sum = bias[channel];
    for (int i = 0; i < kh; ++i) {
        int iy = top + i * dilation_h;
        if (iy < 0 || iy >= in_h) continue;
        for (int j = 0; j < kw; ++j) {
            int ix = left + j * dilation_w;
            if (ix >= 0 && ix < in_w) sum += plane[iy * in_w + ix] * weight[i * kw + j];
        }
    }
    long long other = (long long)channel * added_step + pixel;
    y[(long long)channel * y_step + pixel] = finish(sum, added, other, kind, p, q, late);
}
