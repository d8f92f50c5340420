// How convolutions get at their input: windows, 16 bytes at a time, and what goes through a depthwise
// convolution on the way. Part of conv.cu.

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

// The part of a sum that a block adds up, in steps of K values; of fused ones always all of it.
template <bool FUSED, int K>
struct Steps {
    int begin, end;
    __device__ Steps(const Conv& c, int slice) {
        int count = ((FUSED ? c.in_c : c.in_c * c.kh * c.kw) + K - 1) / K;
        begin = FUSED ? 0 : count * slice / c.parts;
        end = FUSED ? count : count * (slice + 1) / c.parts;
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
#endif
