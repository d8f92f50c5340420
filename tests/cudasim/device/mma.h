// Tensor cores for the simulated device: nvcuda::wmma on 16×16×16 tiles (and 32×8, 8×32).
//
// A lane holds elements lane·n … lane·n + n − 1 of the tile, row by row: any distribution is right,
// as CUDA leaves it open. Products are summed in float, those of bytes in int.
#pragma once

#include "cuda_fp16.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K>
struct tile;
template <int M, int N, int K>
struct tile<matrix_a, M, N, K> { static constexpr int rows = M, columns = K; };
template <int M, int N, int K>
struct tile<matrix_b, M, N, K> { static constexpr int rows = K, columns = N; };
template <int M, int N, int K>
struct tile<accumulator, M, N, K> { static constexpr int rows = M, columns = N; };

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
    static constexpr int rows = tile<Use, M, N, K>::rows, columns = tile<Use, M, N, K>::columns;
    static constexpr int num_elements = rows * columns / 32;
    T x[num_elements];
};

template <class F, class T>
void fill_fragment(F& f, T value) {
    for (auto& v : f.x) v = value;
}

// CUDA's rules: tiles begin at multiples of 32 bytes, their rows are multiples of 16 apart.
template <class T>
void check_place(const T* at, unsigned ld) {
    if (reinterpret_cast<uintptr_t>(at) % 32)
        cudasim::fault("a wmma tile that does not begin at a multiple of 32 bytes");
    if (ld * sizeof(T) % 16) cudasim::fault("a wmma tile whose rows are not multiples of 16 bytes apart");
}

template <class F, class T>
void load(F& f, const T* from, unsigned ld, bool by_rows) {
    check_place(from, ld);
    for (int e = 0; e < F::num_elements; ++e) {
        int at = cudasim::self->lane * F::num_elements + e;
        int r = at / F::columns, c = at % F::columns;
        f.x[e] = by_rows ? from[r * ld + c] : from[c * ld + r];
    }
    __syncwarp();
}
template <class Use, int M, int N, int K, class T, class Layout>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& f, const T* from, unsigned ld) {
    load(f, from, ld, std::is_same_v<Layout, row_major>);
}
template <int M, int N, int K, class T>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& f, const T* from, unsigned ld,
                      layout_t layout) {
    load(f, from, ld, layout == mem_row_major);
}
template <int M, int N, int K, class T>
void store_matrix_sync(T* to, const fragment<accumulator, M, N, K, T>& f, unsigned ld,
                       layout_t layout) {
    check_place(to, ld);
    using F = fragment<accumulator, M, N, K, T>;
    for (int e = 0; e < F::num_elements; ++e) {
        int at = cudasim::self->lane * F::num_elements + e;
        int r = at / F::columns, c = at % F::columns;
        to[layout == mem_row_major ? r * ld + c : c * ld + r] = f.x[e];
    }
    __syncwarp();
}
template <int M, int N, int K, class TA, class LA, class TB, class LB, class TC, class TD>
void mma_sync(fragment<accumulator, M, N, K, TD>& d,
              const fragment<matrix_a, M, N, K, TA, LA>& a,
              const fragment<matrix_b, M, N, K, TB, LB>& b,
              const fragment<accumulator, M, N, K, TC>& c) {
    auto& scratch = cudasim::crew->warps[cudasim::self->warp];
    unsigned lane = cudasim::self->lane;
    using Sum = std::conditional_t<std::is_same_v<TD, int>, int, float>;
    for (int e = 0; e < a.num_elements; ++e) scratch.a[lane * a.num_elements + e] = float(a.x[e]);
    for (int e = 0; e < b.num_elements; ++e) scratch.b[lane * b.num_elements + e] = float(b.x[e]);
    __syncwarp();
    for (int e = 0; e < d.num_elements; ++e) {
        int at = lane * d.num_elements + e, row = at / N, column = at % N;
        Sum sum = Sum(c.x[e]);
        for (int k = 0; k < K; ++k)
            sum += Sum(scratch.a[row * K + k]) * Sum(scratch.b[k * N + column]);
        d.x[e] = TD(sum);
    }
    __syncwarp();
}

}  // namespace nvcuda::wmma
