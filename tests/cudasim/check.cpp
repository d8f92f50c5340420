// What checked kernels (device/checked.h) do to memory, byte by byte: races, bytes that nobody wrote,
// accesses beyond an allocation's own bytes.
//
// Two accesses by different threads of a launch, one of them a write, are a race unless a barrier of
// the block or a meeting of their warp lies between them, or both are atomic. Between blocks: unless
// the first thread's block fenced after its access and the second's did something atomic before.

#include "sim.hpp"

#include <set>
#include <unordered_map>

namespace sim {

namespace {

enum How { reads, writes, atomic };

struct Watched {                       // shared memory of the block that runs
    const char* start = nullptr;
    std::vector<Cell> cells;
    Cell* at(const char* p) {
        return start && p >= start && p < start + cells.size() ? &cells[static_cast<size_t>(p - start)]
                                                               : nullptr;
    }
};

struct Launch {
    std::string kernel;
    unsigned number = 0, block = 0;
    bool acquired = false;             // this block did something atomic
    std::unordered_map<unsigned, unsigned> fences;  // of each block
    Watched fixed, dynamic;
    std::set<std::string> told;        // once each
    Block* last = nullptr;
    uint64_t last_change = 0;
};
thread_local Launch now;
std::atomic<unsigned> launches{0};

void tell(const std::string& kind, const std::string& what) {
    if (now.told.insert(kind).second) report_kernel(what.c_str());
}

bool ordered(const Access& before, const Access& mine) {
    if (before.launch != mine.launch || (before.atomic && mine.atomic)) return true;
    if (before.block != mine.block) return now.fences[before.block] > before.fences && now.acquired;
    if (before.thread == mine.thread || before.barriers < mine.barriers) return true;
    return before.thread / 32 == mine.thread / 32 && before.met < mine.met;
}

void race(const char* where, const char* order, const Access& before, const Access& mine) {
    std::string who = before.block == mine.block
                          ? "threads " + std::to_string(before.thread) + " and " + std::to_string(mine.thread)
                          : "blocks " + std::to_string(before.block) + " and " + std::to_string(mine.block);
    std::string since = mine.line ? "the barrier of line " + std::to_string(mine.line) : "the start";
    tell("race", std::string("race on ") + where + " memory, " + order + ", of " + who + " after " + since);
}

void touch(Cell& cell, const char* where, size_t byte, How how, const Access& mine) {
    if (!ordered(cell.write, mine))
        race(where, how == reads ? "read after write" : "write after write", cell.write, mine);
    if (how != reads && !ordered(cell.read, mine)) race(where, "write after read", cell.read, mine);
    if (how != writes && !cell.known)
        tell("unknown", std::string("read of ") + where + " memory that nothing was written to, byte " +
                            std::to_string(byte));
    if (how == reads) {
        cell.read = mine;
    } else {
        cell.write = mine;
        cell.known = true;
    }
}

Block* block_of(const void* at) {
    auto p = static_cast<const char*>(at);
    auto inside = [p](const Block* b) { return p >= b->address && p < b->address + b->size; };
    Guard g(lock);
    if (now.last_change == block_changes() && now.last && inside(now.last)) return now.last;
    Block* b = find(at);
    if (b && b->kind == Kind::device) {
        now.last = b;
        now.last_change = block_changes();
    }
    return b;
}

void on_access(const void* at, size_t bytes, int kind, const unsigned* who) {
    if (bytes == 0) return;
    auto how = static_cast<How>(kind);
    auto p = static_cast<const char*>(at);
    Access mine{now.number, now.block, who[0], who[1], who[2], who[3], now.fences[now.block], how == atomic};
    if (how == atomic) now.acquired = true;
    for (Watched* shared : {&now.fixed, &now.dynamic})
        if (shared->at(p)) {
            for (size_t i = 0; i < bytes; ++i)
                if (Cell* cell = shared->at(p + i))
                    touch(*cell, "shared", static_cast<size_t>(p - shared->start) + i, how, mine);
            return;
        }
    auto edge = now.dynamic.start;     // device/cudasim_device.h: dynamic_edge
    if (edge && p >= edge - 64 && p < edge + now.dynamic.cells.size() + 256)
        return tell("beyond", "an access outside of dynamic shared memory, byte " +
                                  std::to_string(p - edge) + " of " +
                                  std::to_string(now.dynamic.cells.size()));
    Block* b = block_of(at);
    if (!b) {  // beyond an allocation, in a page that the device has; or the kernel's own
        auto [near, freed] = find_near(at);
        if (near && !freed)
            tell("beyond", "an access outside of an allocation, byte " +
                               std::to_string(p - near->address) + " of " + std::to_string(near->size));
        return;
    }
    const char* start = p >= b->address && p < b->address + b->size ? b->address : b->device;
    auto offset = static_cast<size_t>(p - start);
    if (offset + bytes > b->size)
        tell("beyond", "an access outside of an allocation, byte " + std::to_string(offset + bytes - 1) +
                           " of " + std::to_string(b->size));
    if (b->kind != Kind::device) return;
    for (size_t i = offset; i < offset + bytes && i < b->cells.size(); ++i)
        touch(b->cells[i], "device", i, how, mine);
}

void on_block(unsigned block, const void* fixed, size_t fixed_bytes, const void* dynamic,
              size_t dynamic_bytes) {
    now.block = block;
    now.acquired = false;
    if (!settings.checked) return;
    now.fixed.start = static_cast<const char*>(fixed);
    now.fixed.cells.assign(fixed ? fixed_bytes : 0, {});
    now.dynamic.start = static_cast<const char*>(dynamic);
    now.dynamic.cells.assign(dynamic_bytes, {});
}

void on_fence() { ++now.fences[now.block]; }

// As device/cudasim_device.h declares it.
struct Hooks {
    void (*report)(const char*);
    void (*begin_block)(unsigned, const void*, size_t, const void*, size_t);
    void (*access)(const void*, size_t, int, const unsigned*);
    void (*fence)();
};
const Hooks hooks{report_kernel, on_block, on_access, on_fence};

}  // namespace

const void* module_hooks() { return &hooks; }

void begin_launch(const std::string& kernel) {
    now.kernel = kernel;
    now.number = ++launches;
    now.fences.clear();
    now.told.clear();
}

void report_kernel(const char* what) {
    report((now.kernel.empty() ? "a copy" : "kernel " + now.kernel) + ": " + what);
}

void mark_known(const void* address, size_t size) {
    Guard g(lock);
    Block* b = find(address);
    if (!b || b->cells.empty()) return;
    auto from = static_cast<size_t>(static_cast<const char*>(address) - b->address);
    for (size_t i = from; i < from + size && i < b->cells.size(); ++i) b->cells[i].known = true;
}

}  // namespace sim
