// The driver API as PyCUDA and cuda-bindings call it.

#include "sim.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <set>

namespace sim {

Settings settings;

namespace {

bool started = false;
std::vector<std::unique_ptr<Context>> primaries;
std::set<Context*> extra;              // by cuCtxCreate
thread_local std::vector<Context*> stack;
std::vector<std::string> reports;
struct Plant {
    int skip, times;
    CUresult error;
};
std::map<std::string, Plant> plants;
std::set<Event*> events;

int from_environment(const char* name, int otherwise) {
    const char* text = std::getenv(name);
    return text && *text ? std::atoi(text) : otherwise;
}

void read_settings() {
    settings.devices = from_environment("CUDASIM_DEVICES", 1);
    settings.driver_version = from_environment("CUDASIM_DRIVER_VERSION", 12080);
    settings.capability = from_environment("CUDASIM_CAPABILITY", 90);
    settings.seed = static_cast<uint64_t>(from_environment("CUDASIM_SEED", 0));
    settings.delay_us = from_environment("CUDASIM_DELAY_US", 0);
    settings.integrated = from_environment("CUDASIM_INTEGRATED", 0) != 0;
    settings.memory = static_cast<size_t>(from_environment("CUDASIM_MEMORY_MB", 1024)) << 20;
}

CUresult enter(const char* call, Context** context) {
    if (!started) return CUDA_ERROR_NOT_INITIALIZED;
    *context = current();
    if (!*context) return CUDA_ERROR_INVALID_CONTEXT;
    if (CUresult e = planted(call)) {
        // what a device cannot recover from stays
        if (e == CUDA_ERROR_ILLEGAL_ADDRESS || e == CUDA_ERROR_LAUNCH_FAILED ||
            e == CUDA_ERROR_ECC_UNCORRECTABLE || e == CUDA_ERROR_HARDWARE_STACK_ERROR)
            (*context)->poisoned = e;
        return e;
    }
    return (*context)->poisoned;
}

CUresult make_current(Context* c) {
    if (!c) return CUDA_ERROR_INVALID_CONTEXT;
    Guard g(lock);
    auto me = std::this_thread::get_id();
    if (c->owner == std::thread::id{}) c->owner = me;
    if (c->owner != me) report("a context was made current on a second thread");
    return CUDA_SUCCESS;
}

Stream* stream_of(CUstream handle, Context* context) {
    if (!handle || handle == CU_STREAM_LEGACY) return default_stream(context);
    auto s = reinterpret_cast<Stream*>(handle);
    if (!is_stream(s)) return nullptr;
    if (s->context != context) report("a stream was used in another context");
    return s;
}

// Work on the default stream waits for all streams that do not opt out, and they for it.
Clock settle(Context* context) {
    Clock done;
    for_each_stream([&](Stream& s) {
        if (s.context == context && !(s.flags & CU_STREAM_NON_BLOCKING)) {
            s.wait_idle();
            merge(done, s.clock);
        }
    });
    return done;
}

// Enqueues a copy and closes host memory to the host until it has seen the copy done.
CUresult copy_async(void* to, const void* from, size_t size, CUstream handle, Context* c) {
    Stream* s = stream_of(handle, c);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    Block *source, *target;
    {
        Guard g(lock);
        source = find(from);
        target = find(to);
        if (!source || !target) report("an asynchronous copy of memory that is not page-locked");
        for (Block* b : {source, target})
            if (b && b->kind == Kind::device) {
                auto at = static_cast<const char*>(b == source ? from : to);
                if (at + size > b->address + b->size) return CUDA_ERROR_INVALID_VALUE;
            }
    }
    mark_known(to, size);
    char *out = reach(to), *in = reach(from);
    uint64_t number = s->enqueue([=] { std::memcpy(out, in, size); });
    for (bool writes : {false, true}) {
        const Block* b = writes ? target : source;
        const void* host = writes ? to : from;
        if (!b || b->kind == Kind::device) continue;
        if (number) mark_pending(host, {s->id, number, writes, "copy"});
        else s->capture->touches.push_back({host, size, writes, "copy"});
    }
    return CUDA_SUCCESS;
}

CUresult copy_now(void* to, const void* from, size_t size, Context* c) {
    if (size == 0) return CUDA_SUCCESS;
    if (CUresult e = breaks_capture("a copy that waits")) return e;
    host_saw(settle(c));
    {
        Guard g(lock);
        for (const void* p : {static_cast<const void*>(to), from})
            if (Block* b = find(p))
                if (static_cast<const char*>(p) + size > b->address + b->size &&
                    b->kind == Kind::device)
                    return CUDA_ERROR_INVALID_VALUE;
    }
    mark_known(to, size);
    char *out = reach(to), *in = reach(from);
    if (!run_guarded([=] { std::memcpy(out, in, size); })) return CUDA_ERROR_INVALID_VALUE;
    return c->poisoned;
}

template <class T>
CUresult set_async(CUdeviceptr at, T value, size_t n, CUstream handle, Context* c) {
    if (!handle)
        if (CUresult e = breaks_capture("a memset on the default stream")) return e;
    mark_known(reinterpret_cast<void*>(at), n * sizeof(T));
    auto p = reinterpret_cast<T*>(reach(reinterpret_cast<void*>(at)));
    stream_of(handle, c)->enqueue([=] { std::fill(p, p + n, value); });
    return CUDA_SUCCESS;
}

// The capture that forbids this thread's calls, or that of any stream where it forbids all.
std::shared_ptr<Graph> capture_against_me() {
    std::shared_ptr<Graph> found;
    for_each_stream([&](Stream& s) {
        if (!s.capture || s.capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
        if (s.capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
            s.capture->owner == std::this_thread::get_id())
            found = s.capture;
    });
    return found;
}

// A call on a stream that is being captured, which cannot be a part of a graph.
CUresult spoil(Graph& capture, const std::string& call, CUresult error) {
    capture.invalid = true;
    report(call + ": not allowed while a graph is captured");
    return error;
}

int attribute(CUdevice_attribute a) {
    switch (a) {
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return 1024;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: return 1024;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
        case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 2147483647;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y: return 65535;
        case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 49152;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return 101376;
        case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 102400;
        case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return 65536;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
        case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return 65536;
        case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return 1000000;
        case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return 1000000;
        case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return 128;
        case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 4 << 20;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return 2;
        case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 1536;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return settings.capability / 10;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return settings.capability % 10;
        case CU_DEVICE_ATTRIBUTE_INTEGRATED: return settings.integrated;
        case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY: return 1;
        case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: return 1;
        case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: return 1;
        case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 2;
        case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP: return 1;
        default: return 0;
    }
}

}  // namespace

void report(const std::string& what) {
    Guard g(lock);
    reports.push_back(what);
}

CUresult breaks_capture(const char* call) {
    auto capture = capture_against_me();
    if (!capture) return CUDA_SUCCESS;
    return spoil(*capture, call, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

Context* current() { return stack.empty() ? nullptr : stack.back(); }

CUresult planted(const char* call) {
    Guard g(lock);
    auto at = plants.find(call);
    if (at == plants.end()) return CUDA_SUCCESS;
    if (at->second.skip-- > 0) return CUDA_SUCCESS;
    CUresult e = at->second.error;
    if (--at->second.times == 0) plants.erase(at);
    return e;
}

}  // namespace sim

using namespace sim;

#define API extern "C" CUresult
// For what a thread may not call while it captures a graph.
#define ENTER_OUTSIDE(name)         \
    ENTER(name)                     \
    if (CUresult e = breaks_capture(name)) return e;
#define ENTER(name)                 \
    Context* context = nullptr;     \
    if (CUresult e = enter(name, &context)) return e;

// ---- for the tests ----

// The reports so far, one a line, and forgets them; returns their length.
extern "C" size_t cudasim_reports(char* out, size_t size) {
    Guard g(sim::lock);
    std::string all;
    for (auto& r : reports) all += r + "\n";
    reports.clear();
    if (size) {
        std::strncpy(out, all.c_str(), size - 1);
        out[size - 1] = 0;
    }
    return all.size();
}

// After `skip` more calls of that name, `times` of them fail with `error`; 0 times: none any more.
extern "C" void cudasim_plant(const char* call, int skip, int error, int times) {
    Guard g(sim::lock);
    plants.erase(call);
    if (times) plants[call] = {skip, times, static_cast<CUresult>(error)};
}

extern "C" size_t cudasim_events(void) {
    Guard g(sim::lock);
    return events.size();
}

extern "C" void cudasim_delay(int us, unsigned long long seed) {
    settings.delay_us = us;
    settings.seed = seed;
    settings.launches = 0;
}

// Device memory made from now on is watched byte by byte, for kernels built to be checked.
extern "C" void cudasim_check(int on) { settings.checked = on != 0; }

// ---- start, devices ----

API cuInit(unsigned) {
    Guard g(sim::lock);
    if (CUresult e = planted("cuInit")) return e;
    if (!started) {
        read_settings();
        install_fault_handler();
        for (int i = 0; i < settings.devices; ++i) {
            primaries.push_back(std::make_unique<Context>());
            primaries.back()->device = i;
        }
        started = true;
    }
    return settings.devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}
API cuDriverGetVersion(int* v) { *v = settings.driver_version; return CUDA_SUCCESS; }
API cuDeviceGetCount(int* n) { *n = settings.devices; return CUDA_SUCCESS; }
API cuDeviceGet(CUdevice* d, int i) {
    if (i < 0 || i >= settings.devices) return CUDA_ERROR_INVALID_DEVICE;
    *d = i;
    return CUDA_SUCCESS;
}
API cuDeviceGetName(char* out, int n, CUdevice) {
    std::snprintf(out, static_cast<size_t>(n), "Simulated CUDA device");
    return CUDA_SUCCESS;
}
API cuDeviceTotalMem(size_t* n, CUdevice) { *n = memory_total(); return CUDA_SUCCESS; }
API cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice) {
    *v = attribute(a);
    return CUDA_SUCCESS;
}
API cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
    *major = settings.capability / 10;
    *minor = settings.capability % 10;
    return CUDA_SUCCESS;
}
API cuDeviceGetPCIBusId(char* out, int n, CUdevice d) {
    std::snprintf(out, static_cast<size_t>(n), "0000:%02x:00.0", d + 1);
    return CUDA_SUCCESS;
}
API cuDeviceGetUuid(CUuuid* u, CUdevice d) {
    std::memset(u, d + 1, sizeof *u);
    return CUDA_SUCCESS;
}
API cuGetErrorString(CUresult e, const char** text) {
    switch (e) {
        case CUDA_SUCCESS: *text = "no error"; break;
        case CUDA_ERROR_OUT_OF_MEMORY: *text = "out of memory"; break;
        case CUDA_ERROR_NO_DEVICE: *text = "no CUDA-capable device is detected"; break;
        case CUDA_ERROR_INVALID_CONTEXT: *text = "invalid device context"; break;
        case CUDA_ERROR_ILLEGAL_ADDRESS: *text = "an illegal memory access was encountered"; break;
        case CUDA_ERROR_NOT_READY: *text = "device not ready"; break;
        case CUDA_ERROR_NOT_FOUND: *text = "named symbol not found"; break;
        case CUDA_ERROR_NO_BINARY_FOR_GPU:
            *text = "no kernel image is available for execution on the device"; break;
        default: *text = "simulated error"; break;
    }
    return CUDA_SUCCESS;
}
API cuGetErrorName(CUresult e, const char** text) { return cuGetErrorString(e, text); }

// ---- contexts ----

API cuDevicePrimaryCtxRetain(CUcontext* out, CUdevice d) {
    Guard g(sim::lock);
    if (CUresult e = planted("cuDevicePrimaryCtxRetain")) return e;
    Context* c = primaries.at(static_cast<size_t>(d)).get();
    ++c->retained;
    *out = reinterpret_cast<CUcontext>(c);
    return CUDA_SUCCESS;
}
API cuDevicePrimaryCtxRelease(CUdevice d) {
    Guard g(sim::lock);
    Context* c = primaries.at(static_cast<size_t>(d)).get();
    if (c->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--c->retained == 0) {  // the context ends, and all that is in it
        size_t streams = abandon_streams(c), memory = abandon_memory(c), marks = 0;
        for (auto at = events.begin(); at != events.end();)
            if ((*at)->context == c) {
                ++marks;
                delete *at;
                at = events.erase(at);
            } else {
                ++at;
            }
        size_t modules = abandon_modules(c);
        if (c->poisoned == CUDA_SUCCESS && streams + memory + marks + modules > 0)
            report("the context ended with " + std::to_string(memory) + " allocations, " +
                   std::to_string(streams) + " streams, " + std::to_string(marks) +
                   " events and " + std::to_string(modules) + " modules left");
        c->owner = {};
        c->poisoned = CUDA_SUCCESS;
    }
    return CUDA_SUCCESS;
}
API cuDevicePrimaryCtxGetState(CUdevice d, unsigned* flags, int* active) {
    *flags = 0;
    *active = primaries.at(static_cast<size_t>(d))->retained > 0;
    return CUDA_SUCCESS;
}
API cuCtxPushCurrent(CUcontext handle) {
    auto c = reinterpret_cast<Context*>(handle);
    if (CUresult e = make_current(c)) return e;
    stack.push_back(c);
    return CUDA_SUCCESS;
}
API cuCtxPopCurrent(CUcontext* out) {
    if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (out) *out = reinterpret_cast<CUcontext>(stack.back());
    stack.pop_back();
    return CUDA_SUCCESS;
}
API cuCtxGetCurrent(CUcontext* out) {
    *out = reinterpret_cast<CUcontext>(current());
    return CUDA_SUCCESS;
}
API cuCtxSetCurrent(CUcontext handle) {
    if (!stack.empty()) stack.pop_back();
    return handle ? cuCtxPushCurrent(handle) : CUDA_SUCCESS;
}
API cuCtxGetDevice(CUdevice* d) {
    ENTER("cuCtxGetDevice")
    *d = context->device;
    return CUDA_SUCCESS;
}
API cuCtxGetApiVersion(CUcontext, unsigned* v) { *v = 3020; return CUDA_SUCCESS; }
API cuCtxSynchronize(void) {
    ENTER_OUTSIDE("cuCtxSynchronize")
    Clock done;
    for_each_stream([&](Stream& s) {
        if (s.context == context) {
            s.wait_idle();
            merge(done, s.clock);
        }
    });
    host_saw(done);
    return context->poisoned;
}
API cuCtxGetLimit(size_t* v, CUlimit) { *v = 0; return CUDA_SUCCESS; }
API cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }
API cuCtxGetCacheConfig(CUfunc_cache* v) { *v = CU_FUNC_CACHE_PREFER_NONE; return CUDA_SUCCESS; }
API cuCtxSetCacheConfig(CUfunc_cache) { return CUDA_SUCCESS; }

// ---- memory ----

API cuMemGetInfo(size_t* available, size_t* total) {
    ENTER("cuMemGetInfo")
    *total = memory_total();
    *available = *total - memory_used();
    return CUDA_SUCCESS;
}
API cuMemAlloc(CUdeviceptr* out, size_t n) {
    ENTER_OUTSIDE("cuMemAlloc")
    return allocate_device(n, out);
}
API cuMemAllocPitch(CUdeviceptr* out, size_t* pitch, size_t width, size_t height, unsigned) {
    ENTER_OUTSIDE("cuMemAllocPitch")
    *pitch = (width + 511) / 512 * 512;
    return allocate_device(*pitch * height, out);
}
API cuMemFree(CUdeviceptr p) {
    ENTER_OUTSIDE("cuMemFree")
    for_each_stream([](Stream& s) { s.wait_idle(); });  // as the real one does
    return release(reinterpret_cast<void*>(p), Kind::device, "cuMemFree");
}
API cuMemHostAlloc(void** out, size_t n, unsigned flags) {
    ENTER_OUTSIDE("cuMemHostAlloc")
    return allocate_pinned(n, flags, out);
}
API cuMemAllocHost(void** out, size_t n) { return cuMemHostAlloc(out, n, 0); }
API cuMemFreeHost(void* p) {
    ENTER_OUTSIDE("cuMemFreeHost")
    return release(p, Kind::pinned, "cuMemFreeHost");
}
API cuMemHostRegister(void* p, size_t n, unsigned flags) {
    ENTER_OUTSIDE("cuMemHostRegister")
    return register_host(p, n, flags);
}
API cuMemHostUnregister(void* p) {
    ENTER_OUTSIDE("cuMemHostUnregister")
    return release(p, Kind::registered, "cuMemHostUnregister");
}
API cuMemHostGetDevicePointer(CUdeviceptr* out, void* p, unsigned) {
    ENTER("cuMemHostGetDevicePointer")
    Guard g(sim::lock);
    Block* b = find(p);
    if (!b || b->kind == Kind::device) return CUDA_ERROR_INVALID_VALUE;
    *out = reinterpret_cast<CUdeviceptr>(reach(p));
    return CUDA_SUCCESS;
}
API cuMemHostGetFlags(unsigned* flags, void* p) {
    ENTER("cuMemHostGetFlags")
    Guard g(sim::lock);
    Block* b = find(p);
    if (!b || b->kind == Kind::device) return CUDA_ERROR_INVALID_VALUE;
    *flags = b->flags | CU_MEMHOSTALLOC_DEVICEMAP;
    return CUDA_SUCCESS;
}
API cuMemGetAddressRange(CUdeviceptr* base, size_t* size, CUdeviceptr p) {
    ENTER("cuMemGetAddressRange")
    Guard g(sim::lock);
    Block* b = find(reinterpret_cast<void*>(p));
    if (!b) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = reinterpret_cast<CUdeviceptr>(b->address);
    if (size) *size = b->size;
    return CUDA_SUCCESS;
}
API cuPointerGetAttribute(void* out, CUpointer_attribute a, CUdeviceptr p) {
    ENTER("cuPointerGetAttribute")
    Guard g(sim::lock);
    Block* b = find(reinterpret_cast<void*>(p));
    if (!b) return CUDA_ERROR_INVALID_VALUE;
    if (a == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
        *static_cast<unsigned*>(out) =
            b->kind == Kind::device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_SUPPORTED;
}

// ---- copies ----

static void* at(CUdeviceptr p) { return reinterpret_cast<void*>(p); }

API cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t n) {
    ENTER("cuMemcpyHtoD")
    return copy_now(at(to), from, n, context);
}
API cuMemcpyDtoH(void* to, CUdeviceptr from, size_t n) {
    ENTER("cuMemcpyDtoH")
    return copy_now(to, at(from), n, context);
}
API cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t n) {
    ENTER("cuMemcpyDtoD")
    return copy_now(at(to), at(from), n, context);
}
API cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t n, CUstream s) {
    ENTER("cuMemcpyHtoDAsync")
    return copy_async(at(to), from, n, s, context);
}
API cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t n, CUstream s) {
    ENTER("cuMemcpyDtoHAsync")
    return copy_async(to, at(from), n, s, context);
}
API cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    ENTER("cuMemcpyDtoDAsync")
    return copy_async(at(to), at(from), n, s, context);
}
API cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    ENTER("cuMemcpyAsync")
    return copy_async(at(to), at(from), n, s, context);
}
API cuMemsetD8(CUdeviceptr p, unsigned char v, size_t n) {
    ENTER("cuMemsetD8")
    settle(context);
    if (CUresult e = set_async(p, v, n, nullptr, context)) return e;
    default_stream(context)->wait_idle();
    return context->poisoned;
}
API cuMemsetD32(CUdeviceptr p, unsigned v, size_t n) {
    ENTER("cuMemsetD32")
    settle(context);
    if (CUresult e = set_async(p, v, n, nullptr, context)) return e;
    default_stream(context)->wait_idle();
    return context->poisoned;
}
API cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, CUstream s) {
    ENTER("cuMemsetD8Async")
    return set_async(p, v, n, s, context);
}
API cuMemsetD16Async(CUdeviceptr p, unsigned short v, size_t n, CUstream s) {
    ENTER("cuMemsetD16Async")
    return set_async(p, v, n, s, context);
}
API cuMemsetD32Async(CUdeviceptr p, unsigned v, size_t n, CUstream s) {
    ENTER("cuMemsetD32Async")
    return set_async(p, v, n, s, context);
}

// ---- streams ----

API cuStreamCreate(CUstream* out, unsigned flags) {
    ENTER("cuStreamCreate")
    *out = reinterpret_cast<CUstream>(new Stream(0, flags, context));
    return CUDA_SUCCESS;
}
API cuStreamCreateWithPriority(CUstream* out, unsigned flags, int) {
    return cuStreamCreate(out, flags);
}
API cuStreamDestroy(CUstream s) {
    ENTER("cuStreamDestroy")
    if (!is_stream(reinterpret_cast<Stream*>(s))) return CUDA_ERROR_INVALID_HANDLE;
    if (auto capture = reinterpret_cast<Stream*>(s)->capture)
        spoil(*capture, "cuStreamDestroy", CUDA_SUCCESS);
    delete reinterpret_cast<Stream*>(s);
    return CUDA_SUCCESS;
}
API cuStreamSynchronize(CUstream handle) {
    ENTER("cuStreamSynchronize")
    Stream* s = stream_of(handle, context);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    if (s->capture)
        return spoil(*s->capture, "cuStreamSynchronize", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    s->wait_idle();
    host_saw(s->clock);
    return context->poisoned;
}
API cuStreamQuery(CUstream handle) {
    ENTER("cuStreamQuery")
    Stream* s = stream_of(handle, context);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    if (s->capture)
        return spoil(*s->capture, "cuStreamQuery", CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (!s->idle()) return CUDA_ERROR_NOT_READY;
    host_saw(s->clock);
    return context->poisoned;
}
API cuStreamWaitEvent(CUstream handle, CUevent e, unsigned) {
    ENTER("cuStreamWaitEvent")
    Stream* s = stream_of(handle, context);
    auto event = reinterpret_cast<Event*>(e);
    if (s->capture && !event->captured)
        return spoil(*s->capture, "cuStreamWaitEvent for an event of outside",
                     CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (event->captured) return s->capture ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
    s->wait_for(*event);
    return CUDA_SUCCESS;
}

API cuLaunchHostFunc(CUstream handle, CUhostFn f, void* data) {
    ENTER("cuLaunchHostFunc")
    Stream* s = stream_of(handle, context);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    s->enqueue([=] { f(data); });
    return CUDA_SUCCESS;
}

// ---- events ----

API cuEventCreate(CUevent* out, unsigned flags) {
    ENTER("cuEventCreate")
    auto e = new Event;
    e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
    e->context = context;
    Guard g(sim::lock);
    events.insert(e);
    *out = reinterpret_cast<CUevent>(e);
    return CUDA_SUCCESS;
}
API cuEventDestroy(CUevent handle) {
    ENTER("cuEventDestroy")
    Guard g(sim::lock);
    auto e = reinterpret_cast<Event*>(handle);
    if (!events.erase(e)) {
        report("cuEventDestroy: no such event, or destroyed before");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    delete e;
    return CUDA_SUCCESS;
}
static CUresult record(CUevent handle, CUstream stream, bool external) {
    ENTER("cuEventRecord")
    auto e = reinterpret_cast<Event*>(handle);
    Stream* s = stream_of(stream, context);
    auto done = std::make_shared<std::atomic<bool>>(false);
    auto when = std::make_shared<std::atomic<int64_t>>(0);
    if (s->capture) {
        if (!external) {  // orders the graph's nodes, marks nothing
            e->captured = true;
            return CUDA_SUCCESS;
        }
        // a node of the graph: each launch marks the same event anew
        s->enqueue([done, when] {
            *when = now_ns();
            *done = true;
        });
        e->done = done;
        e->at_ns = when;
        e->recorded = true;
        e->stream = s->id;
        return CUDA_SUCCESS;
    }
    if (external) return CUDA_ERROR_INVALID_VALUE;
    e->captured = false;
    e->number = s->enqueue([done, when] {
        *when = now_ns();
        *done = true;
    });
    e->done = done;
    e->at_ns = when;
    e->recorded = true;
    e->stream = s->id;
    e->clock = s->clock;
    return CUDA_SUCCESS;
}
API cuEventRecord(CUevent handle, CUstream stream) { return record(handle, stream, false); }
API cuEventRecordWithFlags(CUevent handle, CUstream stream, unsigned flags) {
    return record(handle, stream, flags & CU_EVENT_RECORD_EXTERNAL);
}
API cuEventQuery(CUevent handle) {
    ENTER("cuEventQuery")
    auto e = reinterpret_cast<Event*>(handle);
    if (e->captured) {
        report("an event was waited for that a capture recorded");
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (!e->recorded) return CUDA_SUCCESS;
    if (!*e->done) return CUDA_ERROR_NOT_READY;
    host_saw(e->clock);
    return context->poisoned;
}
API cuEventSynchronize(CUevent handle) {
    ENTER("cuEventSynchronize")
    auto e = reinterpret_cast<Event*>(handle);
    if (e->captured) {
        report("an event was waited for that a capture recorded");
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    if (!e->recorded) return CUDA_SUCCESS;
    while (!*e->done && context->poisoned == CUDA_SUCCESS)
        std::this_thread::sleep_for(std::chrono::microseconds(20));
    host_saw(e->clock);
    return context->poisoned;
}
#undef cuEventElapsedTime
#undef cuEventElapsedTime_v2
API cuEventElapsedTime(float* ms, CUevent a, CUevent b) {
    ENTER("cuEventElapsedTime")
    auto x = reinterpret_cast<Event*>(a), y = reinterpret_cast<Event*>(b);
    if (!x->recorded || !y->recorded || !x->timing || !y->timing) return CUDA_ERROR_INVALID_HANDLE;
    if (!*x->done || !*y->done) return CUDA_ERROR_NOT_READY;
    *ms = static_cast<float>(*y->at_ns - *x->at_ns) / 1e6f;
    return CUDA_SUCCESS;
}

API cuEventElapsedTime_v2(float* ms, CUevent a, CUevent b) { return cuEventElapsedTime(ms, a, b); }

// ---- graphs: what was captured on one stream, launched as one ----

API cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    ENTER("cuStreamBeginCapture")
    Stream* s = stream_of(handle, context);
    if (s->capture || !handle || handle == CU_STREAM_LEGACY)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    s->capture = std::make_shared<Graph>();
    s->capture->mode = mode;
    s->capture->owner = std::this_thread::get_id();
    return CUDA_SUCCESS;
}
API cuStreamEndCapture(CUstream handle, CUgraph* out) {
    ENTER("cuStreamEndCapture")
    Stream* s = stream_of(handle, context);
    if (!s->capture) return CUDA_ERROR_ILLEGAL_STATE;
    if (s->capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        s->capture->owner != std::this_thread::get_id())
        return spoil(*s->capture, "cuStreamEndCapture on another thread",
                     CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    if (s->capture->invalid) {
        s->capture.reset();
        *out = nullptr;
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *out = reinterpret_cast<CUgraph>(new std::shared_ptr<Graph>(s->capture));
    s->capture.reset();
    return CUDA_SUCCESS;
}
API cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
    ENTER("cuStreamIsCapturing")
    *status = stream_of(handle, context)->capture ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                                  : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
API cuGraphInstantiateWithFlags(CUgraphExec* out, CUgraph graph, unsigned long long) {
    ENTER("cuGraphInstantiate")
    auto g = *reinterpret_cast<std::shared_ptr<Graph>*>(graph);
    *out = reinterpret_cast<CUgraphExec>(new std::shared_ptr<Graph>(g));
    return CUDA_SUCCESS;
}
API cuGraphLaunch(CUgraphExec exec, CUstream handle) {
    ENTER("cuGraphLaunch")
    Stream* s = stream_of(handle, context);
    auto g = *reinterpret_cast<std::shared_ptr<Graph>*>(exec);
    uint64_t number = s->enqueue([g] {
        for (auto& work : g->work) work();
    });
    for (auto& t : g->touches) mark_pending(t.address, {s->id, number, t.writes, t.by});
    return CUDA_SUCCESS;
}
API cuGraphGetNodes(CUgraph graph, CUgraphNode*, size_t* count) {
    *count = (*reinterpret_cast<std::shared_ptr<Graph>*>(graph))->work.size();
    return CUDA_SUCCESS;
}
API cuGraphDestroy(CUgraph graph) {
    delete reinterpret_cast<std::shared_ptr<Graph>*>(graph);
    return CUDA_SUCCESS;
}
API cuGraphExecDestroy(CUgraphExec exec) {
    delete reinterpret_cast<std::shared_ptr<Graph>*>(exec);
    return CUDA_SUCCESS;
}
// ---- calls by name, as cuda-bindings ask for them ----

// The CUDA version that brought a call, or a variant of it; what is not here is older than 11.0.
static const std::map<std::string, int> brought_by = {
    {"cuEventRecordWithFlags", 11010}, {"cuGraphInstantiateWithFlags", 11040},
    {"cuLaunchKernelEx", 11060},       {"cuEventElapsedTime_v2", 12080},
};

API cuGetProcAddress(const char* symbol, void** out, int since, cuuint64_t,
                     CUdriverProcAddressQueryResult* result) {
    *out = nullptr;
    bool later = since > settings.driver_version;  // a call of a later CUDA than this driver's
    Dl_info here;
    dladdr(reinterpret_cast<void*>(&cudasim_events), &here);
    void* self = dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    for (const char* version : {"_v4", "_v3", "_v2", ""}) {
        if (*out) break;
        std::string name = std::string(symbol) + version;
        auto known = brought_by.find(name);
        if (known != brought_by.end() && known->second > std::min(since, settings.driver_version)) {
            later = true;
            continue;
        }
        *out = since > settings.driver_version ? nullptr : dlsym(self, name.c_str());
    }
    if (result)
        *result = *out    ? CU_GET_PROC_ADDRESS_SUCCESS
                  : later ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                          : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return *out ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}
API cuProfilerStart(void) { return CUDA_SUCCESS; }
API cuProfilerStop(void) { return CUDA_SUCCESS; }
