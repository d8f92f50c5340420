// What becomes of a value element by element. Kinds in the order of app/cuda/native/launch.py; p and q:
// bounds of CLIP, slope of LEAKY, factor and offset of HARDSIGMOID and HARDSILU.
// No convolution has SQRT, and each case costs its inner loop instructions: it is where it is used.

enum { NONE, CLIP, LEAKY, EXP, SIGMOID, SILU, HARDSIGMOID, HARDSILU, ERF, SQRT };

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
