// Memory of the simulated device: poisoned, fenced, and watched while copies are pending.
//
// Device memory ends at a page that nobody may touch, and becomes such pages when freed. Pinned
// memory is mapped twice: the host's view can be closed while a copy is pending, the device's
// (DMA's) stays open.

#include "sim.hpp"

#include <csetjmp>
#include <csignal>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

namespace sim {

std::recursive_mutex lock;

namespace {

constexpr size_t page = 4096;
constexpr size_t alignment = 256;      // of every device allocation
constexpr unsigned char poison = 0xFF; // NaN as float and half, -1 as integer

std::map<uintptr_t, Block> blocks;     // by address
size_t used = 0;
uint64_t changes = 0;
Clock seen;
std::deque<Block> gone;                // device memory freed lately
constexpr size_t gone_most = 256;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

bool covers(const Block& b, const void* p) {
    auto at = reinterpret_cast<uintptr_t>(p), start = reinterpret_cast<uintptr_t>(b.address);
    return at >= start && at < start + b.size;
}

Block* find_device_view(const void* p) {
    for (auto& [_, b] : blocks) {
        auto at = static_cast<const char*>(p);
        if (b.kind != Kind::device && at >= b.device && at < b.device + b.size) return &b;
    }
    return nullptr;
}

// Opens or closes the host's view as the pending copies demand.
void protect(Block& b) {
    if (b.kind != Kind::pinned) return;
    int allowed = PROT_READ | PROT_WRITE;
    for (auto& p : b.pending) allowed &= p.writes ? PROT_NONE : PROT_READ;
    mprotect(b.address, round_up(b.size, page), allowed);
}

void unmap(Block& b) {
    ++changes;
    if (b.kind == Kind::device) {
        b.cells.clear();
        gone.push_back(b);
        if (gone.size() > gone_most) gone.pop_front();
        used -= b.size;
        // Whoever comes back here, comes to a fence; the pages themselves are given back.
        madvise(b.mapping, b.mapped, MADV_DONTNEED);
        mprotect(b.mapping, b.mapped, PROT_NONE);
    } else if (b.kind == Kind::pinned) {
        munmap(b.device, b.mapped);
        munmap(b.address, b.mapped);
    }
}

}  // namespace

void merge(Clock& into, const Clock& from) {
    for (auto& [stream, number] : from) {
        auto& mine = into[stream];
        if (mine < number) mine = number;
    }
}

Block* find(const void* address) {
    auto at = blocks.upper_bound(reinterpret_cast<uintptr_t>(address));
    if (at != blocks.begin() && covers((--at)->second, address)) return &at->second;
    return find_device_view(address);
}

Near find_near(const void* address) {
    Guard g(lock);
    auto at = static_cast<const char*>(address);
    auto inside = [at](const char* start, size_t size) { return at >= start && at < start + size; };
    for (auto& [_, b] : blocks)
        if (b.kind == Kind::device ? inside(b.mapping, b.mapped)
                                   : inside(b.device, b.mapped ? b.mapped : b.size) ||
                                         inside(b.address, b.mapped ? b.mapped : b.size))
            return {&b, false};
    for (auto b = gone.rbegin(); b != gone.rend(); ++b)
        if (inside(b->mapping, b->mapped)) return {&*b, true};
    return {nullptr, false};
}
uint64_t block_changes() {
    Guard g(lock);
    return changes;
}

char* reach(const void* address) {
    Guard g(lock);
    Block* b = find(address);
    auto at = const_cast<char*>(static_cast<const char*>(address));
    if (!b || !covers(*b, address)) return at;
    return b->device + (at - b->address);
}

CUresult allocate_device(size_t size, CUdeviceptr* out) {
    Guard g(lock);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    if (used + size > settings.memory) return CUDA_ERROR_OUT_OF_MEMORY;
    size_t body = round_up(size, alignment), mapped = round_up(body, page) + page;
    auto mapping = static_cast<char*>(
        mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (mapping == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    char* address = mapping + mapped - page - body;  // its end touches the fence
    std::memset(mapping, poison, mapped - page);
    mprotect(mapping + mapped - page, page, PROT_NONE);
    blocks[reinterpret_cast<uintptr_t>(address)] =
        Block{Kind::device, address, address, size, mapping, mapped, 0, current(), {},
              std::vector<Cell>(settings.checked ? size : 0)};
    used += size;
    ++changes;
    *out = reinterpret_cast<CUdeviceptr>(address);
    return CUDA_SUCCESS;
}

CUresult allocate_pinned(size_t size, unsigned flags, void** out) {
    Guard g(lock);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    size_t mapped = round_up(size, page);
    int file = memfd_create("cudasim pinned", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, static_cast<off_t>(mapped)) != 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    auto view = [&] {
        return static_cast<char*>(
            mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    };
    char *host = view(), *device = view();
    close(file);
    if (host == MAP_FAILED || device == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
    std::memset(host, poison, mapped);
    blocks[reinterpret_cast<uintptr_t>(host)] =
        Block{Kind::pinned, host, device, size, host, mapped, flags, current(), {}, {}};
    ++changes;
    *out = host;
    return CUDA_SUCCESS;
}

CUresult register_host(void* address, size_t size, unsigned flags) {
    Guard g(lock);
    if (find(address)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    auto at = static_cast<char*>(address);
    blocks[reinterpret_cast<uintptr_t>(address)] =
        Block{Kind::registered, at, at, size, nullptr, 0, flags, current(), {}, {}};
    ++changes;
    return CUDA_SUCCESS;
}

CUresult release(const void* address, Kind kind, const char* call) {
    Guard g(lock);
    auto at = blocks.find(reinterpret_cast<uintptr_t>(address));
    if (at == blocks.end() || at->second.kind != kind) {
        report(std::string(call) + ": no such memory, or freed before");
        return CUDA_ERROR_INVALID_VALUE;
    }
    Block& b = at->second;
    if (!b.pending.empty()) {
        report(std::string(call) + ": freed with a " + b.pending.back().by + " pending");
        for_each_stream([](Stream& s) { s.wait_idle(); });
        b.pending.clear();
        protect(b);
    }
    unmap(b);
    blocks.erase(at);
    return CUDA_SUCCESS;
}

size_t abandon_memory(Context* context) {
    Guard g(lock);
    size_t count = 0;
    for (auto at = blocks.begin(); at != blocks.end();) {
        if (at->second.context == context) {
            ++count;
            unmap(at->second);
            at = blocks.erase(at);
        } else {
            ++at;
        }
    }
    return count;
}

void mark_pending(const void* address, const Pending& pending) {
    Guard g(lock);
    if (Block* b = find(address)) {
        b->pending.push_back(pending);
        protect(*b);
    }
}

void host_saw(const Clock& clock) {
    Guard g(lock);
    merge(seen, clock);
    for (auto& [_, b] : blocks) {
        if (b.pending.empty()) continue;
        auto done = [](const Pending& p) {
            auto at = seen.find(p.stream);
            return at != seen.end() && at->second >= p.number;
        };
        std::vector<Pending> left;
        for (auto& p : b.pending)
            if (!done(p)) left.push_back(p);
        if (left.size() != b.pending.size()) {
            b.pending = left;
            protect(b);
        }
    }
}

size_t memory_total() { return settings.memory; }
size_t memory_used() {
    Guard g(lock);
    return used;
}

// ---- faults ----

namespace {

thread_local sigjmp_buf* device_return = nullptr;
thread_local const void* touched = nullptr;

// What lies where a kernel or a copy was not allowed to go.
std::string described(const void* address) {
    auto [b, freed] = find_near(address);
    if (!b) return "an access to memory that nobody allocated";
    auto offset = static_cast<const char*>(address) - (b->kind == Kind::device ? b->address : b->device);
    return std::string("an access ") + (freed ? "to freed memory" : "outside of an allocation") +
           ", byte " + std::to_string(offset) + " of " + std::to_string(b->size);
}
struct sigaction before;

void on_fault(int number, siginfo_t* info, void* context) {
    if (device_return) {
        touched = info->si_addr;
        siglongjmp(*device_return, 1);
    }
    // The host touched memory that a pending copy owns: note it, let it pass.
    bool mine = false;
    if (lock.try_lock()) {
        auto at = blocks.upper_bound(reinterpret_cast<uintptr_t>(info->si_addr));
        if (at != blocks.begin()) {
            Block& b = (--at)->second;
            auto p = static_cast<char*>(info->si_addr);
            if (b.kind == Kind::pinned && p >= b.address && p < b.address + b.mapped &&
                !b.pending.empty()) {
                const Pending* worst = &b.pending.front();
                for (auto& q : b.pending)
                    if (q.writes) worst = &q;
                report(std::string("the host ") + (worst->writes ? "touched" : "wrote") +
                       " pinned memory that a pending " + worst->by +
                       (worst->writes ? " writes" : " reads"));
                b.pending.clear();
                protect(b);
                mine = true;
            }
        }
        lock.unlock();
    }
    if (mine) return;
    sigaction(SIGSEGV, &before, nullptr);  // not ours: as if we were not there
    if (before.sa_flags & SA_SIGINFO && before.sa_sigaction)
        before.sa_sigaction(number, info, context);
    else
        raise(number);
}

}  // namespace

void install_fault_handler() {
    struct sigaction mine {};
    mine.sa_sigaction = on_fault;
    mine.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&mine.sa_mask);
    sigaction(SIGSEGV, &mine, &before);
}

bool run_guarded(const std::function<void()>& f) {
    sigjmp_buf here;
    if (sigsetjmp(here, 1)) {
        device_return = nullptr;
        if (touched != reinterpret_cast<void*>(8)) report_kernel(described(touched).c_str());
        return false;  // at 8: the kernel's own fault(), reported already
    }
    device_return = &here;
    f();
    device_return = nullptr;
    return true;
}

// Leaks, for the tests.
extern "C" size_t cudasim_blocks(void) {
    Guard g(lock);
    return blocks.size();
}

}  // namespace sim
