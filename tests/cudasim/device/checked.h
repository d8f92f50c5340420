// Kernels whose every access to memory is told: g++ calls these functions before each one when it is
// asked for -fsanitize=thread, and those below where an address, an index or a sum is not allowed.
// Neither of g++'s own libraries for these options is linked.
#pragma once

namespace cudasim {

CUDASIM_RUNTIME inline void note_inside(const void* at, size_t bytes, int how) {
    auto byte = static_cast<const char*>(at);
    auto within = [byte](const void* start, size_t size) {
        return byte >= static_cast<const char*>(start) && byte < static_cast<const char*>(start) + size;
    };
    if (within(crew, sizeof *crew) || at == static_cast<const void*>(&self)) return;
    if (at == static_cast<const void*>(&crew)) return;
    if (within(crew->warps.data(), crew->warps.size() * sizeof(Warp))) return;
    if (within(crew->fibres.data(), crew->fibres.size() * sizeof(Fibre))) return;
    unsigned who[] = {self->warp * 32 + self->lane, 0, 0, 0};
    if (Fibre* me = crew->running) {
        if (within(me->stack.get(), stack_bytes)) return;
        who[1] = crew->barriers, who[2] = crew->warps[self->warp].synchronised;
        who[3] = static_cast<unsigned>(me->line);
    }
    cudasim_hooks->access(at, bytes, how, who);
}

// how: 0 reads, 1 writes, 2 atomic. Not of what is done here, nor outside of kernels.
CUDASIM_RUNTIME inline void note(const void* at, size_t bytes, int how) {
    if (!self || !cudasim_hooks || telling) return;
    telling = 1;
    note_inside(at, bytes, how);
    telling = 0;
}

struct Place {
    const char* file;
    unsigned line, column;
};
[[noreturn]] inline void fault_at(const Place* place, const char* what) {
    char text[200];
    std::snprintf(text, sizeof text, "%s, line %u", what, place->line);
    fault(text);
}

}  // namespace cudasim

#define CUDASIM_HOOK extern "C" __attribute__((used, visibility("hidden"), no_sanitize("thread")))
#define CUDASIM_SIZE(n)                                                       \
    CUDASIM_HOOK void __tsan_read##n(void* at) { cudasim::note(at, n, 0); }    \
    CUDASIM_HOOK void __tsan_write##n(void* at) { cudasim::note(at, n, 1); }   \
    CUDASIM_HOOK void __tsan_unaligned_read##n(void* at) { cudasim::note(at, n, 0); } \
    CUDASIM_HOOK void __tsan_unaligned_write##n(void* at) { cudasim::note(at, n, 1); }
CUDASIM_SIZE(1)
CUDASIM_SIZE(2)
CUDASIM_SIZE(4)
CUDASIM_SIZE(8)
CUDASIM_SIZE(16)
CUDASIM_HOOK void __tsan_read_range(void* at, size_t n) { cudasim::note(at, n, 0); }
CUDASIM_HOOK void __tsan_write_range(void* at, size_t n) { cudasim::note(at, n, 1); }
CUDASIM_HOOK void __tsan_init() {}
CUDASIM_HOOK void __tsan_func_entry(void*) {}
CUDASIM_HOOK void __tsan_func_exit() {}

#define CUDASIM_UB(name, what)                                                     \
    CUDASIM_HOOK void __ubsan_handle_##name##_abort(cudasim::Place* at, uintptr_t, uintptr_t) { \
        cudasim::fault_at(at, what);                                               \
    }
CUDASIM_UB(type_mismatch_v1, "an address that is not aligned as its type needs it")
CUDASIM_UB(out_of_bounds, "an index beyond its array")
CUDASIM_UB(divrem_overflow, "a division by zero")
CUDASIM_UB(shift_out_of_bounds, "a shift by more bits than there are")
CUDASIM_UB(add_overflow, "a sum beyond its type")
CUDASIM_UB(sub_overflow, "a difference beyond its type")
CUDASIM_UB(mul_overflow, "a product beyond its type")
CUDASIM_UB(negate_overflow, "a negation beyond its type")
