// CUDA C++ for g++: what a .cu file finds when it is built for the simulated device.
//
// A block's threads are fibres of one stream worker, so shared memory is thread_local and a barrier
// is a switch to the next fibre. Kernels that never wait for each other run as plain loops.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __align__(n) alignas(n)
#define __CUDACC__ 1
#define __CUDA_ARCH__ CUDASIM_ARCH
#define CUDASIM 1

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
#define CUDASIM_VECTORS(T, N)                                \
    struct N##2 { T x, y; };                                 \
    struct N##3 { T x, y, z; };                              \
    struct N##4 { T x, y, z, w; };                           \
    inline N##2 make_##N##2(T a, T b) { return {a, b}; }     \
    inline N##3 make_##N##3(T a, T b, T c) { return {a, b, c}; } \
    inline N##4 make_##N##4(T a, T b, T c, T d) { return {a, b, c, d}; }
typedef unsigned char uchar;
typedef unsigned int uint;
CUDASIM_VECTORS(float, float)
CUDASIM_VECTORS(int, int)
CUDASIM_VECTORS(unsigned char, uchar)
CUDASIM_VECTORS(short, short)
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) { return {a, b, c, d}; }
#undef CUDASIM_VECTORS

namespace cudasim {

struct Self {
    uint3 thread, block;
    dim3 block_size, grid_size;
    unsigned lane, warp;
};
inline thread_local Self* self = nullptr;

// ---- fibres ----

enum class State { ready, block, warp, done };
struct Fibre {
    void* stack_pointer = nullptr;
    std::unique_ptr<char[]> stack;
    State state = State::done;
    unsigned mask = 0;
    Self self{};
};
struct WarpScratch {
    alignas(16) char slot[32][16];
    float a[32 * 32], b[32 * 32];
};
struct Crew {                          // of one stream worker
    std::vector<Fibre> fibres;
    std::vector<WarpScratch> warps;
    void* scheduler = nullptr;
    Fibre* running = nullptr;
    std::vector<char> dynamic;
    void (*body)(const void*) = nullptr;
    const void* arguments = nullptr;
};
inline thread_local Crew crew;
constexpr size_t stack_bytes = 64 << 10;

#if defined(__x86_64__)
extern "C" __attribute__((visibility("hidden"))) void cudasim_switch(void** save, void* load);
asm(R"(
.text
.hidden cudasim_switch
.globl cudasim_switch
cudasim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
inline void* first_frame(char* top, void (*entry)()) {
    auto sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
    *--sp = nullptr;                   // the entry never returns; keeps the stack aligned
    *--sp = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--sp = nullptr;
    return sp;
}
#elif defined(__aarch64__)
extern "C" __attribute__((visibility("hidden"))) void cudasim_switch(void** save, void* load);
asm(R"(
.text
.hidden cudasim_switch
.globl cudasim_switch
cudasim_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
inline void* first_frame(char* top, void (*entry)()) {
    auto sp = reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15};
    auto frame = reinterpret_cast<void**>(sp - 160);
    std::memset(frame, 0, 160);
    frame[11] = reinterpret_cast<void*>(entry);  // x30
    return frame;
}
#else
#error "the simulated device knows x86-64 and aarch64"
#endif

inline void resume(Fibre& f) {
    crew.running = &f;
    self = &f.self;
    cudasim_switch(&crew.scheduler, f.stack_pointer);
}
inline void yield(State state) {
    Fibre& me = *crew.running;
    me.state = state;
    cudasim_switch(&me.stack_pointer, crew.scheduler);
}
inline void fibre_entry() {
    crew.body(crew.arguments);
    yield(State::done);
    __builtin_trap();
}
[[noreturn]] inline void fault(const char* why) {
    std::fprintf(stderr, "cudasim: %s\n", why);
    *reinterpret_cast<volatile int*>(8) = 0;  // as an illegal access ends the kernel
    __builtin_trap();
}

// One block whose threads wait for each other.
inline void run_block_of_fibres(unsigned count) {
    auto& all = crew.fibres;
    if (all.size() < count) all.resize(count);
    crew.warps.resize((count + 31) / 32);
    for (unsigned i = 0; i < count; ++i) {
        Fibre& f = all[i];
        if (!f.stack) f.stack.reset(new char[stack_bytes]);
        f.stack_pointer = first_frame(f.stack.get() + stack_bytes, fibre_entry);
        f.state = State::ready;
    }
    for (;;) {
        bool ran = false, live = false, all_at_barrier = true;
        for (unsigned i = 0; i < count; ++i)
            if (all[i].state == State::ready) {
                resume(all[i]);
                ran = true;
            }
        for (unsigned i = 0; i < count; ++i) {
            live |= all[i].state != State::done;
            all_at_barrier &= all[i].state == State::done || all[i].state == State::block;
        }
        if (!live) return;
        bool freed = false;
        if (all_at_barrier) {
            for (unsigned i = 0; i < count; ++i)
                if (all[i].state == State::block) all[i].state = State::ready;
            continue;
        }
        for (unsigned w = 0; w * 32 < count; ++w)
            for (unsigned i = w * 32; i < count && i < w * 32 + 32; ++i) {
                if (all[i].state != State::warp) continue;
                unsigned mask = all[i].mask;
                bool together = true;
                for (unsigned k = 0; k < 32 && w * 32 + k < count; ++k) {
                    Fibre& other = all[w * 32 + k];
                    if (mask >> k & 1 && other.state != State::done)
                        together &= other.state == State::warp && other.mask == mask;
                }
                if (!together) continue;
                for (unsigned k = 0; k < 32 && w * 32 + k < count; ++k)
                    if (mask >> k & 1 && all[w * 32 + k].state == State::warp)
                        all[w * 32 + k].state = State::ready;
                freed = true;
            }
        if (!freed && !ran) fault("a barrier that some threads of the block never reach");
    }
}

template <class... A>
struct Packed {
    template <class T>
    static T take(const char* from, size_t& offset) {
        offset = (offset + alignof(T) - 1) / alignof(T) * alignof(T);
        T value;
        std::memcpy(&value, from + offset, sizeof value);
        offset += sizeof value;
        return value;
    }
    static std::tuple<A...> unpack(const void* from) {
        size_t offset = 0;
        (void)offset;
        return std::tuple<A...>{take<A>(static_cast<const char*>(from), offset)...};
    }
    static size_t bytes() {
        size_t offset = 0;
        ((offset = (offset + alignof(A) - 1) / alignof(A) * alignof(A) + sizeof(A)), ...);
        return offset;
    }
};

template <auto kernel, class... A>
void launch(void (*)(A...), const void* packed, const unsigned* grid, const unsigned* block,
            unsigned shared) {
    auto arguments = Packed<A...>::unpack(packed);
    unsigned count = block[0] * block[1] * block[2];
    crew.dynamic.assign(shared + 16, static_cast<char>(0xFF));
    crew.arguments = &arguments;
    crew.body = [](const void* a) {
        std::apply(kernel, *static_cast<const std::tuple<A...>*>(a));
    };
    if (CUDASIM_FIBRES && crew.fibres.size() < count) crew.fibres.resize(count);
    Self plain{};
    for (unsigned bz = 0; bz < grid[2]; ++bz)
        for (unsigned by = 0; by < grid[1]; ++by)
            for (unsigned bx = 0; bx < grid[0]; ++bx) {
                unsigned i = 0;
                for (unsigned z = 0; z < block[2]; ++z)
                    for (unsigned y = 0; y < block[1]; ++y)
                        for (unsigned x = 0; x < block[0]; ++x, ++i) {
                            Self& s = CUDASIM_FIBRES ? crew.fibres[i].self : plain;
                            s = Self{{x, y, z}, {bx, by, bz}, {block[0], block[1], block[2]},
                                     {grid[0], grid[1], grid[2]}, i % 32, i / 32};
                            if (!CUDASIM_FIBRES) {
                                self = &s;
                                crew.body(crew.arguments);
                            }
                        }
                if (CUDASIM_FIBRES) run_block_of_fibres(count);
            }
}

inline void* dynamic_shared() {
    auto at = reinterpret_cast<uintptr_t>(crew.dynamic.data());
    return reinterpret_cast<void*>((at + 15) & ~uintptr_t{15});
}

}  // namespace cudasim

#define CUDASIM_KERNEL(name)                                                              \
    extern "C" void cudasim_launch_##name(const void* packed, const unsigned* grid,        \
                                          const unsigned* block, unsigned shared) {        \
        cudasim::launch<&name>(&name, packed, grid, block, shared);                        \
    }                                                                                      \
    template <class... A>                                                                  \
    size_t cudasim_count_##name(void (*)(A...)) { return cudasim::Packed<A...>::bytes(); } \
    extern "C" size_t cudasim_bytes_##name() { return cudasim_count_##name(&name); }

#define threadIdx (cudasim::self->thread)
#define blockIdx (cudasim::self->block)
#define blockDim (cudasim::self->block_size)
#define gridDim (cudasim::self->grid_size)
#define warpSize 32

// ---- barriers and what warps exchange ----

inline void __syncthreads() { cudasim::yield(cudasim::State::block); }
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) {
    cudasim::crew.running->mask = mask;
    cudasim::yield(cudasim::State::warp);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}

namespace cudasim {
template <class T>
T exchange(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 16, "a warp exchanges up to 16 bytes a lane");
    auto& slots = crew.warps[self->warp].slot;
    std::memcpy(slots[self->lane], &value, sizeof value);
    __syncwarp(mask);
    T got;
    std::memcpy(&got, slots[from & 31], sizeof got);
    __syncwarp(mask);
    return got;
}
}  // namespace cudasim

template <class T>
T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
    unsigned base = cudasim::self->lane / width * width;
    return cudasim::exchange(mask, v, base + static_cast<unsigned>(lane) % width);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
    unsigned me = cudasim::self->lane, to = me ^ static_cast<unsigned>(lanes);
    return cudasim::exchange(mask, v, to / width == me / width ? to : me);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned lanes, int width = 32) {
    unsigned me = cudasim::self->lane, to = me + lanes;
    return cudasim::exchange(mask, v, to / width == me / width ? to : me);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned lanes, int width = 32) {
    unsigned me = cudasim::self->lane;
    bool inside = me % width >= lanes;
    return cudasim::exchange(mask, v, inside ? me - lanes : me);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    auto& slots = cudasim::crew.warps[cudasim::self->warp].slot;
    int mine = predicate != 0;
    std::memcpy(slots[cudasim::self->lane], &mine, sizeof mine);
    __syncwarp(mask);
    unsigned votes = 0;
    for (unsigned k = 0; k < 32; ++k) {
        int theirs;
        std::memcpy(&theirs, slots[k], sizeof theirs);
        if (mask >> k & 1 && theirs) votes |= 1u << k;
    }
    __syncwarp(mask);
    return votes;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz(static_cast<unsigned>(v)) : 32; }

// ---- atomics: several streams may run at once ----

template <class T>
T atomicAdd(T* at, T v) {
    if constexpr (std::is_integral_v<T>) {
        return __atomic_fetch_add(at, v, __ATOMIC_RELAXED);
    } else {
        T old, sum;
        __atomic_load(at, &old, __ATOMIC_RELAXED);
        do sum = old + v;
        while (!__atomic_compare_exchange(at, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return old;
    }
}
template <class T>
T atomicMax(T* at, T v) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(at, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T>
T atomicMin(T* at, T v) {
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (v < old &&
           !__atomic_compare_exchange_n(at, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T>
T atomicCAS(T* at, T expected, T v) {
    __atomic_compare_exchange_n(at, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T>
T atomicExch(T* at, T v) { return __atomic_exchange_n(at, v, __ATOMIC_RELAXED); }
template <class T>
T atomicOr(T* at, T v) { return __atomic_fetch_or(at, v, __ATOMIC_RELAXED); }

// ---- arithmetic ----

template <class T>
T __ldg(const T* at) { return *at; }
using std::isfinite;
using std::isinf;
using std::isnan;
using std::max;
using std::min;
template <class A, class B>
auto min(A a, B b) -> std::common_type_t<A, B> {
    std::common_type_t<A, B> x = a, y = b;
    return y < x ? y : x;
}
template <class A, class B>
auto max(A a, B b) -> std::common_type_t<A, B> {
    std::common_type_t<A, B> x = a, y = b;
    return x < y ? y : x;
}
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __saturatef(float v) { return v < 0 ? 0.f : v > 1 ? 1.f : v; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __float2int_rn(float v) { return static_cast<int>(std::nearbyint(v)); }
inline int __float2int_rd(float v) { return static_cast<int>(std::floor(v)); }
inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline unsigned __float_as_uint(float v) { unsigned u; std::memcpy(&u, &v, 4); return u; }
inline int __float_as_int(float v) { int u; std::memcpy(&u, &v, 4); return u; }
inline float __uint_as_float(unsigned u) { float v; std::memcpy(&v, &u, 4); return v; }
inline float __int_as_float(int u) { float v; std::memcpy(&v, &u, 4); return v; }
