// From the camera's pixels to the network's input, in one pass.
//
// Purpose    colour conversion, bilinear resize, letterbox padding, normalisation, HWC -> CHW.
// Input      src: uint8, one frame as it was captured, `pitch` bytes a line:
//              0 BGR8  3 bytes a pixel          3 YUYV  4 bytes for 2 pixels, Y0 U Y1 V
//              1 BGRA8 4 bytes a pixel          4 NV12  lines of Y, then lines of U V at half size
//              2 GRAY8 1 byte a pixel           5 I420  lines of Y, then U, then V at half size
// Output     dst: (3, out_h, out_w) float or half (-DHALF): pixel * scale[c] + shift[c], channels in
//            the network's order (`swap` 1: RGB); outside of the placed picture: `pad` instead.
// Placement  the whole frame lies at [x, x + w) x [y, y + h) of the output (app/core/letterbox.py).
// Convention half-pixel centres: source = (i + 0.5) * size_src / size_dst - 0.5, clamped to the frame;
//            in whole numbers with the bits that cv2.resize keeps: a network trained on its pictures
//            sees the very same.
// YUV        by the numbers of the frame's matrix and range (app/core/frame.py: yuv_to_bgr), which are
//            B = luma (Y - black) + blue_u (U - 128), and so on; rounded, clamped, then interpolated.
// Grid       one thread an output pixel; block 32 x 8; grid covers out_w x out_h.
// Twin       kernels/twins.py: preprocess

#ifdef HALF
#include <cuda_fp16.h>
typedef __half value_t;
__device__ inline value_t to_value(float v) { return __float2half(v); }
#else
typedef float value_t;
__device__ inline value_t to_value(float v) { return v; }
#endif

enum { BGR8, BGRA8, GRAY8, YUYV, NV12, I420 };

struct Pixel {
    float b, g, r;
};

__device__ inline float clamp_byte(float v) { return fminf(fmaxf(rintf(v), 0.0f), 255.0f); }

struct Colour {
    float black, luma, blue_u, green_u, green_v, red_v;
};

__device__ inline Pixel from_yuv(const Colour& c, int y, int u, int v) {
    float l = c.luma * (y - c.black), d = u - 128, e = v - 128;
    Pixel p;
    p.b = clamp_byte(l + c.blue_u * d);
    p.g = clamp_byte(l + c.green_u * d + c.green_v * e);
    p.r = clamp_byte(l + c.red_v * e);
    return p;
}

// How much of the first and the second of two neighbours, in 2048ths.
struct Weights {
    int first, second;
    __device__ Weights(float share) {
        first = (int)rintf((1 - share) * 2048), second = (int)rintf(share * 2048);
    }
};

__device__ inline float blend(float p00, float p01, float p10, float p11, Weights across,
                              Weights down) {
    int top = (int)p00 * across.first + (int)p01 * across.second;
    int bottom = (int)p10 * across.first + (int)p11 * across.second;
    return ((down.first * (top >> 4) >> 16) + (down.second * (bottom >> 4) >> 16) + 2) >> 2;
}

__device__ inline Pixel fetch(const unsigned char* src, int pitch, int rows, int format,
                              const Colour& colour, int x, int y) {
    const unsigned char* line = src + (long long)y * pitch;
    Pixel p;
    switch (format) {
        case BGR8:
            p.b = line[3 * x], p.g = line[3 * x + 1], p.r = line[3 * x + 2];
            return p;
        case BGRA8:
            p.b = line[4 * x], p.g = line[4 * x + 1], p.r = line[4 * x + 2];
            return p;
        case GRAY8:
            p.b = p.g = p.r = line[x];
            return p;
        case YUYV: {
            const unsigned char* pair = line + 4 * (x / 2);
            return from_yuv(colour, pair[2 * (x % 2)], pair[1], pair[3]);
        }
        case NV12: {
            const unsigned char* chroma = src + (long long)(rows + y / 2) * pitch + 2 * (x / 2);
            return from_yuv(colour, line[x], chroma[0], chroma[1]);
        }
        default: {
            long long plane = (long long)(rows / 2) * (pitch / 2);
            const unsigned char* u = src + (long long)rows * pitch + (y / 2) * (pitch / 2) + x / 2;
            return from_yuv(colour, line[x], u[0], u[plane]);
        }
    }
}

extern "C" __global__ void preprocess(const unsigned char* __restrict__ src,
                                      value_t* __restrict__ dst, int src_w, int src_h, int pitch,
                                      int format, int out_w, int out_h, int x0, int y0, int w,
                                      int h, int swap, float scale0, float scale1, float scale2,
                                      float shift0, float shift1, float shift2, float pad,
                                      float black, float luma, float blue_u, float green_u,
                                      float green_v, float red_v) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_w || y >= out_h) return;
    float b = pad, g = pad, r = pad;
    if (x >= x0 && x < x0 + w && y >= y0 && y < y0 + h) {
        float sx = (x - x0 + 0.5f) * ((float)src_w / w) - 0.5f;
        float sy = (y - y0 + 0.5f) * ((float)src_h / h) - 0.5f;
        sx = fminf(fmaxf(sx, 0.0f), src_w - 1.0f);
        sy = fminf(fmaxf(sy, 0.0f), src_h - 1.0f);
        int left = (int)sx, top = (int)sy;
        int right = min(left + 1, src_w - 1), bottom = min(top + 1, src_h - 1);
        float fx = sx - left, fy = sy - top;
        Colour colour = {black, luma, blue_u, green_u, green_v, red_v};
        Pixel p00 = fetch(src, pitch, src_h, format, colour, left, top);
        Pixel p01 = fetch(src, pitch, src_h, format, colour, right, top);
        Pixel p10 = fetch(src, pitch, src_h, format, colour, left, bottom);
        Pixel p11 = fetch(src, pitch, src_h, format, colour, right, bottom);
        Weights across(fx), down(fy);
        b = blend(p00.b, p01.b, p10.b, p11.b, across, down);
        g = blend(p00.g, p01.g, p10.g, p11.g, across, down);
        r = blend(p00.r, p01.r, p10.r, p11.r, across, down);
    }
    int plane = out_w * out_h, at = y * out_w + x;
    float first = swap ? r : b, third = swap ? b : r;
    dst[at] = to_value(first * scale0 + shift0);
    dst[at + plane] = to_value(g * scale1 + shift1);
    dst[at + 2 * plane] = to_value(third * scale2 + shift2);
}
