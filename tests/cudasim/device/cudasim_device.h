// CUDA C++ for g++: what a .cu file finds when it is built for the simulated device.
//
// A block's threads are fibres of one stream worker, so shared memory is thread_local and a barrier
// is a switch to the next fibre. Kernels that never wait for each other run as plain loops.
#pragma once

#include <link.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __forceinline__ inline
#define __grid_constant__
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)  // nvcc, the script, tells CUDASIM_KERNEL of it
#define __shared__ static thread_local
#define __align__(n) alignas(n)
#define __CUDACC__ 1
#define __CUDA_ARCH__ CUDASIM_ARCH
#define CUDASIM 1

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
// as CUDA aligns them: pairs and fours as a whole, threes as one element
#define CUDASIM_VECTORS(T, N)                                            \
    struct alignas(2 * sizeof(T)) N##2 { T x, y; };                      \
    struct N##3 { T x, y, z; };                                          \
    struct alignas(4 * sizeof(T)) N##4 { T x, y, z, w; };                \
    inline N##2 make_##N##2(T a, T b) { return {a, b}; }                 \
    inline N##3 make_##N##3(T a, T b, T c) { return {a, b, c}; }         \
    inline N##4 make_##N##4(T a, T b, T c, T d) { return {a, b, c, d}; }
typedef unsigned char uchar;
typedef unsigned int uint;
CUDASIM_VECTORS(float, float)
CUDASIM_VECTORS(int, int)
CUDASIM_VECTORS(unsigned, uint)
CUDASIM_VECTORS(char, char)
CUDASIM_VECTORS(unsigned char, uchar)
CUDASIM_VECTORS(short, short)
CUDASIM_VECTORS(unsigned short, ushort)
#undef CUDASIM_VECTORS

// What the simulated driver gives to each module that it loads (module.cpp).
struct CudasimHooks {
    void (*report)(const char* what);
    void (*begin_block)(unsigned block, const void* fixed, size_t fixed_bytes, const void* dynamic,
                        size_t dynamic_bytes);
    // how: 0 reads, 1 writes, 2 atomic; who: thread, barriers passed, meetings of its warp, line of
    // its last barrier
    void (*access)(const void* at, size_t bytes, int how, const unsigned* who);
    void (*fence)();
};
extern "C" const CudasimHooks* cudasim_hooks;
const CudasimHooks* cudasim_hooks = nullptr;
#ifdef CUDASIM_CHECKED  // every access to memory is told to the driver (checked.h)
#define CUDASIM_RUNTIME __attribute__((no_sanitize("thread"), noinline))
#define CUDASIM_ATOMIC(at, bytes) cudasim::note(at, bytes, 2)
#define CUDASIM_FENCE() cudasim_hooks->fence()
#define CUDASIM_COPIED(to, written, from, taken) \
    (cudasim::note(from, taken, 0), cudasim::note(to, written, 1))
#else
#define CUDASIM_RUNTIME
#define CUDASIM_ATOMIC(at, bytes)
#define CUDASIM_FENCE()
#define CUDASIM_COPIED(to, written, from, taken)
#endif

namespace cudasim {

struct Self {
    uint3 thread, block;
    dim3 block_size, grid_size;
    unsigned lane, warp;
};
inline thread_local Self* self = nullptr;
inline thread_local int telling = 0;   // an access is being told (checked.h)

// ---- fibres ----

enum class State { ready, block, warp, done };
struct AsyncCopy {
    char* to;
    const char* from;
    unsigned bytes, zeros, batch;
};
struct Fibre {
    void* stack_pointer = nullptr;
    std::unique_ptr<char[]> stack;
    unsigned mask = 0;                 // of the warp operation that it waits in
    int line = 0;                      // of the last barrier that it came to
    unsigned batch = 0;                // of asynchronous copies, the one that is open
    std::vector<AsyncCopy> copies;     // under way, oldest first
    Self self{};
};
struct Warp {
    alignas(16) char slot[32][16];
    float a[32 * 32], b[32 * 32];
    unsigned lanes, ready, block, warp, done;  // the lanes that there are, and those in each state
    unsigned synchronised;             // how often lanes of it have met
};
struct Crew {                          // of one stream worker
    std::vector<Fibre> fibres;
    std::vector<Warp> warps;
    void* scheduler = nullptr;
    Fibre* running = nullptr;
    std::vector<char> dynamic;
    void (*body)(const void*) = nullptr;
    const void* arguments = nullptr;
    unsigned long long chance = 1;     // of the order in which blocks, warps and lanes take turns
    unsigned barriers = 0;             // that the block has passed
    int votes = 0, voted = 0;          // of __syncthreads_count, before and after the barrier
};
// A pointer: what needs a constructor would bring a guard into the module's thread-local storage,
// which otherwise is shared memory.
inline thread_local Crew* crew = nullptr;
struct CrewOwner {
    CrewOwner() { crew = new Crew; }
    ~CrewOwner() { delete crew; }
};
constexpr size_t stack_bytes = 64 << 10;

inline unsigned draw(unsigned count) {  // xorshift64: a number below count
    auto& c = crew->chance;
    c ^= c << 13, c ^= c >> 7, c ^= c << 17;
    return static_cast<unsigned>(c >> 32) % count;
}

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
    crew->running = &f;
    self = &f.self;
    cudasim_switch(&crew->scheduler, f.stack_pointer);
}
inline void yield(State state) {
    Fibre& me = *crew->running;
    Warp& warp = crew->warps[me.self.warp];
    unsigned bit = 1u << me.self.lane;
    warp.ready &= ~bit;
    (state == State::block ? warp.block : state == State::warp ? warp.warp : warp.done) |= bit;
    cudasim_switch(&me.stack_pointer, crew->scheduler);
}
#ifdef CUDASIM_CHECKED
inline void note(const void* at, size_t bytes, int how);
#endif
inline void fibre_entry() {
    crew->body(crew->arguments);
    yield(State::done);
    __builtin_trap();
}
[[noreturn]] inline void fault(const char* why) {
    std::fprintf(stderr, "cudasim: %s\n", why);
    if (cudasim_hooks) cudasim_hooks->report(why);
    *reinterpret_cast<volatile int*>(8) = 0;  // as an illegal access ends the kernel
    __builtin_trap();
}

// Lets those lanes go on that have met: all lanes of a mask that have not ended.
inline void free_lanes(Warp& warp, unsigned first) {
    for (unsigned waiting = warp.warp; waiting; waiting &= waiting - 1) {
        unsigned mask = crew->fibres[first + __builtin_ctz(waiting)].mask, same = 0;
        for (unsigned k = 0; k < 32; ++k)
            if (warp.warp >> k & 1 && crew->fibres[first + k].mask == mask) same |= 1u << k;
        if (mask & warp.lanes & ~warp.done & ~same) continue;
        warp.warp &= ~(same & mask);
        warp.ready |= same & mask;
        ++warp.synchronised;
    }
}

constexpr size_t dynamic_edge = 256;   // bytes of nobody before and after dynamic shared memory
inline void* dynamic_shared() {
    auto at = reinterpret_cast<uintptr_t>(crew->dynamic.data());
    return reinterpret_cast<void*>((at + dynamic_edge) & ~uintptr_t{127});
}

// Static shared memory is this thread's part of the module's thread-local storage.
struct Range {
    char* start = nullptr;
    size_t size = 0;
};
inline int find_shared(dl_phdr_info* module, size_t, void* out) {
    auto here = reinterpret_cast<uintptr_t>(&find_shared);
    Range found;
    bool mine = false;
    for (int i = 0; i < module->dlpi_phnum; ++i) {
        auto& part = module->dlpi_phdr[i];
        uintptr_t start = module->dlpi_addr + part.p_vaddr;
        mine |= part.p_type == PT_LOAD && here >= start && here < start + part.p_memsz;
        if (part.p_type == PT_TLS) found = {static_cast<char*>(module->dlpi_tls_data), part.p_memsz};
    }
    if (mine) *static_cast<Range*>(out) = found;
    return mine;
}

// A block finds no number in shared memory: what earlier ones left there is gone.
inline void begin_block(unsigned block) {
    static thread_local Range shared;
    if (!shared.start) dl_iterate_phdr(find_shared, &shared);
    std::pair<char*, size_t> ours[] = {
        {reinterpret_cast<char*>(&crew), sizeof crew}, {reinterpret_cast<char*>(&self), sizeof self},
        {reinterpret_cast<char*>(&telling), sizeof telling},
        {reinterpret_cast<char*>(&shared), sizeof shared}};
    std::sort(std::begin(ours), std::end(ours));
    char *at = shared.start, *end = shared.start + shared.size;
    for (auto& [start, size] : ours) {
        if (start < at || start >= end) continue;
        std::memset(at, 0xFF, static_cast<size_t>(start - at));
        at = start + size;
    }
    std::memset(at, 0xFF, static_cast<size_t>(end - at));
    std::fill(crew->dynamic.begin(), crew->dynamic.end(), static_cast<char>(0xFF));
    if (cudasim_hooks)
        cudasim_hooks->begin_block(block, shared.start, shared.size, dynamic_shared(),
                                   crew->dynamic.size() - 2 * dynamic_edge);
}

// One block whose threads wait for each other. Warps take turns by chance, and so do the lanes of
// a warp: nothing but barriers keeps an order, as on a device.
inline void run_block_of_fibres(unsigned count) {
    auto& all = crew->fibres;
    unsigned warps = (count + 31) / 32;
    crew->warps.resize(warps);
    for (unsigned i = 0; i < count; ++i) {
        Fibre& f = all[i];
        if (!f.stack) f.stack.reset(new char[stack_bytes]);
        f.stack_pointer = first_frame(f.stack.get() + stack_bytes, fibre_entry);
        f.line = 0, f.batch = 0;
        f.copies.clear();
    }
    for (unsigned w = 0; w < warps; ++w) {
        Warp& warp = crew->warps[w];
        warp.lanes = warp.ready = count - w * 32 < 32 ? (1u << (count - w * 32)) - 1 : ~0u;
        warp.block = warp.warp = warp.done = warp.synchronised = 0;
    }
    crew->barriers = 0, crew->votes = 0;
    for (;;) {
        unsigned ready = 0, waiting = 0, done = 0;
        for (unsigned w = 0; w < warps; ++w) {
            ready += crew->warps[w].ready != 0;
            waiting += __builtin_popcount(crew->warps[w].block);
            done += __builtin_popcount(crew->warps[w].done);
        }
        if (done == count) return;
        if (ready == 0) {
            if (waiting + done < count) fault("a barrier that some threads of the block never reach");
            if (done) fault("a barrier that some threads never reach: they have ended");
            for (unsigned i = 1; i < count; ++i)
                if (all[i].line != all[0].line)
                    fault("threads of a block wait at different barriers");
            ++crew->barriers;
            crew->voted = crew->votes, crew->votes = 0;
            for (unsigned w = 0; w < warps; ++w)
                crew->warps[w].ready = crew->warps[w].block, crew->warps[w].block = 0;
            continue;
        }
        unsigned w = 0;
        for (unsigned turn = draw(ready);; ++w)
            if (crew->warps[w].ready && turn-- == 0) break;
        Warp& warp = crew->warps[w];
        unsigned from = draw(32), step = 2 * draw(16) + 1;
        for (unsigned k = 0; k < 32; ++k) {
            unsigned lane = (from + k * step) & 31;
            if (warp.ready >> lane & 1) resume(all[w * 32 + lane]);
        }
        free_lanes(warp, w * 32);
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

// Bits 2k and 2k + 1 of the k-th 8 bytes of the arguments: a pointer through which the kernel may
// read, may write. Structures that are passed by value may hold any.
template <class T>
void note_pointer(unsigned char* kinds, size_t& offset) {
    offset = (offset + alignof(T) - 1) / alignof(T) * alignof(T);
    if constexpr (std::is_pointer_v<T>)
        kinds[offset / 8] = std::is_const_v<std::remove_pointer_t<T>> ? 1 : 2;
    else if constexpr (std::is_class_v<T>)
        for (size_t at = (offset + 7) / 8; at * 8 + 8 <= offset + sizeof(T); ++at) kinds[at] = 3;
    offset += sizeof(T);
}

template <auto kernel, class... A>
void launch(void (*)(A...), const void* packed, const unsigned* grid, const unsigned* block,
            unsigned shared, unsigned long long seed) {
    static thread_local CrewOwner owner;
    (void)&owner;
    auto arguments = Packed<A...>::unpack(packed);
    unsigned count = block[0] * block[1] * block[2], blocks = grid[0] * grid[1] * grid[2];
    crew->dynamic.assign(shared + 2 * dynamic_edge, static_cast<char>(0xFF));
    crew->arguments = &arguments;
    crew->body = [](const void* a) {
        std::apply(kernel, *static_cast<const std::tuple<A...>*>(a));
    };
    crew->chance = seed | 1;
    if (CUDASIM_FIBRES && crew->fibres.size() < count) crew->fibres.resize(count);
    Self plain{};
    // blocks in an order by chance: steps of a number that has no divisor in common with theirs
    unsigned long long first = draw(blocks), step = 1 + draw(blocks);
    while (std::gcd(step, static_cast<unsigned long long>(blocks)) != 1) ++step;
    for (unsigned long long n = 0; n < blocks; ++n) {
        unsigned at = static_cast<unsigned>((first + n * step) % blocks), i = 0;
        unsigned bx = at % grid[0], by = at / grid[0] % grid[1], bz = at / grid[0] / grid[1];
        begin_block(at);
        for (unsigned z = 0; z < block[2]; ++z)
            for (unsigned y = 0; y < block[1]; ++y)
                for (unsigned x = 0; x < block[0]; ++x, ++i) {
                    Self& s = CUDASIM_FIBRES ? crew->fibres[i].self : plain;
                    s = Self{{x, y, z}, {bx, by, bz}, {block[0], block[1], block[2]},
                             {grid[0], grid[1], grid[2]}, i % 32, i / 32};
                    if (!CUDASIM_FIBRES) {
                        self = &s;
                        crew->body(crew->arguments);
                    }
                }
        if (CUDASIM_FIBRES) run_block_of_fibres(count);
        self = nullptr;
    }
}

}  // namespace cudasim

#define CUDASIM_KERNEL(name, most_threads)                                                 \
    extern "C" void cudasim_launch_##name(const void* packed, const unsigned* grid,        \
                                          const unsigned* block, unsigned shared,          \
                                          unsigned long long seed) {                       \
        cudasim::launch<&name>(&name, packed, grid, block, shared, seed);                  \
    }                                                                                      \
    template <class... A>                                                                  \
    size_t cudasim_about_##name(void (*)(A...), unsigned char* kinds) {                    \
        size_t offset = 0;                                                                 \
        (cudasim::note_pointer<A>(kinds, offset), ...);                                    \
        return cudasim::Packed<A...>::bytes();                                             \
    }                                                                                      \
    extern "C" unsigned cudasim_bound_##name = most_threads;                               \
    extern "C" size_t cudasim_arguments_##name(unsigned char* kinds) {                     \
        return cudasim_about_##name(&name, kinds);                                         \
    }

#define threadIdx (cudasim::self->thread)
#define blockIdx (cudasim::self->block)
#define blockDim (cudasim::self->block_size)
#define gridDim (cudasim::self->grid_size)
#define warpSize 32

// ---- barriers and what warps exchange ----

inline void __syncthreads(int line = __builtin_LINE()) {
    cudasim::crew->running->line = line;
    cudasim::yield(cudasim::State::block);
}
inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) {
    cudasim::crew->votes += predicate != 0;
    __syncthreads(line);
    return cudasim::crew->voted;
}
inline int __syncthreads_or(int p, int line = __builtin_LINE()) {
    return __syncthreads_count(p, line) != 0;
}
inline int __syncthreads_and(int p, int line = __builtin_LINE()) {
    return __syncthreads_count(!p, line) == 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) {
    if (!(mask >> cudasim::self->lane & 1)) cudasim::fault("a lane is not in the mask that it names");
    cudasim::crew->running->mask = mask;
    cudasim::yield(cudasim::State::warp);
}
CUDASIM_RUNTIME inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    CUDASIM_FENCE();
}
inline void __threadfence_block() {}
inline unsigned __activemask() {
    return 1u << cudasim::self->lane;  // lanes need not be together
}

// ---- asynchronous copies to shared memory: they land when they are waited for ----

inline void __pipeline_memcpy_async(void* to, const void* from, size_t bytes, size_t zeros = 0) {
    if (bytes != 4 && bytes != 8 && bytes != 16)
        cudasim::fault("an asynchronous copy of another size than 4, 8 or 16 bytes");
    if ((reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from)) % bytes)
        cudasim::fault("an asynchronous copy whose addresses are not multiples of its size");
    auto& me = *cudasim::crew->running;
    std::memset(to, 0xFF, bytes);      // whoever looks before the wait sees no number
    me.copies.push_back({static_cast<char*>(to), static_cast<const char*>(from),
                         static_cast<unsigned>(bytes), static_cast<unsigned>(zeros), me.batch});
}
inline void __pipeline_commit() { ++cudasim::crew->running->batch; }
inline void __pipeline_wait_prior(unsigned kept) {
    auto& me = *cudasim::crew->running;
    size_t done = 0;
    for (auto& c : me.copies) {
        if (c.batch + kept >= me.batch) break;
        if (c.zeros < c.bytes) std::memcpy(c.to, c.from, c.bytes - c.zeros);
        std::memset(c.to + c.bytes - c.zeros, 0, c.zeros);
        CUDASIM_COPIED(c.to, c.bytes, c.from, c.bytes - c.zeros);
        ++done;
    }
    me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<ptrdiff_t>(done));
}

namespace cudasim {
template <class T>
T exchange(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 16, "a warp exchanges up to 16 bytes a lane");
    auto& warp = crew->warps[self->warp];
    auto& slots = warp.slot;
    std::memcpy(slots[self->lane], &value, sizeof value);
    __syncwarp(mask);
    if (!(mask & warp.lanes & ~warp.done & 1u << (from & 31)))
        fault("a shuffle takes the value of a lane that does not take part");
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
    auto& slots = cudasim::crew->warps[cudasim::self->warp].slot;
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
CUDASIM_RUNTIME T atomicAdd(T* at, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
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
CUDASIM_RUNTIME T atomicMax(T* at, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (old < v &&
           !__atomic_compare_exchange_n(at, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T>
CUDASIM_RUNTIME T atomicMin(T* at, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
    T old = __atomic_load_n(at, __ATOMIC_RELAXED);
    while (v < old &&
           !__atomic_compare_exchange_n(at, &old, v, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    return old;
}
template <class T>
CUDASIM_RUNTIME T atomicCAS(T* at, T expected, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
    __atomic_compare_exchange_n(at, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return expected;
}
template <class T>
CUDASIM_RUNTIME T atomicExch(T* at, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
    return __atomic_exchange_n(at, v, __ATOMIC_RELAXED);
}
template <class T>
CUDASIM_RUNTIME T atomicOr(T* at, T v) {
    CUDASIM_ATOMIC(at, sizeof *at);
    return __atomic_fetch_or(at, v, __ATOMIC_RELAXED);
}

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

#ifdef CUDASIM_CHECKED
#include "checked.h"
#endif
