// What the parts of the simulated CUDA device share. See README.md.
#pragma once

#include <cuda.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace sim {

// One lock for all bookkeeping. Work on streams runs without it.
extern std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;

// ---- reports: what a real device would let pass, or punish only sometimes ----
void report(const std::string& what);

// Of the kernel that this thread runs.
void report_kernel(const char* what);

// ---- contexts ----
struct Context {
    int device = 0;
    int retained = 0;
    std::thread::id owner{};           // the thread that first made it current
    std::atomic<CUresult> poisoned{CUDA_SUCCESS};
};
Context* current();                    // of this thread; nullptr: none

// ---- progress: which work has the host seen to be done? ----
// Work number n of stream s is seen when seen[s] >= n.
using Clock = std::map<uint64_t, uint64_t>;
void merge(Clock& into, const Clock& from);

// ---- memory ----
enum class Kind { device, pinned, registered };
struct Pending {
    uint64_t stream, number;
    bool writes;                       // the device writes it: the host may not even read
    std::string by;                    // "copy", or "kernel NAME"
};
// What checked kernels did to one byte (check.cpp).
struct Access {
    unsigned launch = 0, block = 0, thread = 0, barriers = 0, met = 0, line = 0, fences = 0;
    bool atomic = false;
};
struct Cell {
    Access write, read;
    bool known = false;                // something was written there
};
struct Block {
    Kind kind;
    char* address;                     // the device's for Kind::device, else the host's
    char* device;                      // how stream workers reach the same bytes
    size_t size;
    char* mapping;                     // what was mmapped, guard page included
    size_t mapped;
    unsigned flags;
    Context* context;
    std::vector<Pending> pending;
    std::vector<Cell> cells;           // of device memory that is watched (cudasim_check)
};
CUresult allocate_device(size_t size, CUdeviceptr* out);
CUresult allocate_pinned(size_t size, unsigned flags, void** out);
CUresult register_host(void* address, size_t size, unsigned flags);
CUresult release(const void* address, Kind kind, const char* call);
// What a context that ends leaves behind goes with it; returns how many.
size_t abandon_memory(Context* context);
size_t abandon_modules(Context* context);
Block* find(const void* address);      // the live block that holds it; nullptr: none
// The device's view of a host or device address.
char* reach(const void* address);
// The block of whose mapping it is, alive or (device memory) freed, even beyond its own bytes.
struct Near {
    const Block* block;
    bool freed;
};
Near find_near(const void* address);
uint64_t block_changes();              // how often blocks came or went
void mark_pending(const void* address, const Pending& pending);
void host_saw(const Clock& clock);     // lets go of what is now known to be done
size_t memory_total();
size_t memory_used();

// ---- checked kernels ----
void begin_launch(const std::string& kernel);
void mark_known(const void* address, size_t size);  // a copy or a memset writes it
const void* module_hooks();            // device/cudasim_device.h: CudasimHooks

// ---- faults ----
void install_fault_handler();
// Runs f on this thread as the device would; false: it touched what is not its own (reported).
bool run_guarded(const std::function<void()>& f);

// ---- streams and events ----
struct Event {
    bool timing = true;
    bool recorded = false;
    bool captured = false;             // recorded last into a graph: it marks no time, nobody waits
    uint64_t stream = 0, number = 0;   // the work that completes it
    Clock clock;                       // what is done when it is done
    std::shared_ptr<std::atomic<bool>> done;
    std::shared_ptr<std::atomic<int64_t>> at_ns;
    Context* context = nullptr;
};
struct Touch {                         // of host memory, by a copy in a graph
    const void* address;
    size_t size;
    bool writes;
    std::string by;
};
struct Graph {
    std::vector<std::function<void()>> work;
    std::vector<Touch> touches;
    std::thread::id owner;             // who captures it
    CUstreamCaptureMode mode;
    bool invalid = false;              // something was called that a capture does not allow
};
// Whether `call` breaks a capture that is going on: reported, and the capture is lost.
CUresult breaks_capture(const char* call);
class Stream {
public:
    Stream(uint64_t id, unsigned flags, Context* context);
    ~Stream();
    // Enqueues work and returns its number; while capturing, keeps it instead and returns 0.
    uint64_t enqueue(std::function<void()> work);
    void wait_idle();
    bool idle();
    void wait_for(const Event& event);
    uint64_t id;
    unsigned flags;
    Context* context;
    Clock clock;                       // what is done when all that was enqueued is done
    std::shared_ptr<Graph> capture;

private:
    void run();
    std::deque<std::function<void()>> queue_;
    std::mutex mutex_;
    std::condition_variable changed_;
    uint64_t enqueued_ = 0, finished_ = 0;
    bool ending_ = false;
    std::mt19937_64 chance_;
    std::thread thread_;
};
Stream* default_stream(Context* context);
bool is_stream(Stream* s);
size_t abandon_streams(Context* context);
void for_each_stream(const std::function<void(Stream&)>& f);
int64_t now_ns();

// ---- settings, from the environment and from tests ----
struct Settings {
    int devices = 1;
    int driver_version = 12080;
    int capability = 90;
    uint64_t seed = 0;                 // of delays, and of the order in which threads take turns
    uint64_t launches = 0;             // since the seed was given
    int delay_us = 0;                  // at most, before each work
    bool integrated = false;
    size_t memory = size_t{1} << 30;
    bool checked = false;              // device memory made from now on is watched
};
extern Settings settings;
// The error that a test planted for this call, or CUDA_SUCCESS.
CUresult planted(const char* call);

}  // namespace sim
