// Modules are shared objects that g++ built from the .cu source; kernels are entries in them.

#include "sim.hpp"

#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <set>
#include <unistd.h>

using namespace sim;

namespace {

struct Module {
    void* library;
    Context* context;
};
struct Function {
    std::string name;
    // (arguments, grid[3], block[3], bytes of dynamic shared memory, seed of the order)
    void (*launch)(const void*, const unsigned*, const unsigned*, unsigned, unsigned long long);
    size_t argument_bytes = 0;
    unsigned char pointers[512] = {};  // of each 8 bytes of arguments: 1 it reads there, 2 writes
    unsigned most_threads = 1024;      // __launch_bounds__
    int shared_limit = 49152;
};
std::set<Module*> modules;
std::map<std::pair<Module*, std::string>, std::unique_ptr<Function>> functions;

}  // namespace

static void unload(Module* m) {
    for (auto at = functions.begin(); at != functions.end();)
        at = at->first.first == m ? functions.erase(at) : std::next(at);
    dlclose(m->library);
    delete m;
}

size_t sim::abandon_modules(Context* context) {
    Guard g(sim::lock);
    size_t count = 0;
    for (auto at = modules.begin(); at != modules.end();) {
        if ((*at)->context == context) {
            ++count;
            unload(*at);
            at = modules.erase(at);
        } else {
            ++at;
        }
    }
    return count;
}

#define API extern "C" CUresult

static CUresult check(const char* call, Context** context) {
    *context = current();
    if (!*context) return CUDA_ERROR_INVALID_CONTEXT;
    if (CUresult e = planted(call)) return e;
    return (*context)->poisoned;
}

// Notes which page-locked memory a kernel may read or write by itself.
static void note_pointers(const Function& f, const std::vector<char>& arguments, Stream* s,
                          uint64_t number) {
    Guard g(sim::lock);
    for (size_t i = 0; i * 8 + 8 <= arguments.size() && i < sizeof f.pointers; ++i) {
        void* address;
        std::memcpy(&address, arguments.data() + i * 8, 8);
        Block* b = f.pointers[i] ? find(address) : nullptr;
        if (!b || b->kind != Kind::pinned) continue;
        bool writes = f.pointers[i] & 2;
        std::string by = "kernel " + f.name;
        if (s->capture) s->capture->touches.push_back({address, 1, writes, by});
        else mark_pending(address, {s->id, number, writes, by});
    }
}

API cuModuleLoadDataEx(CUmodule* out, const void* image, unsigned, CUjit_option*, void**) {
    Context* context;
    if (CUresult e = check("cuModuleLoadDataEx", &context)) return e;
    if (CUresult e = breaks_capture("cuModuleLoadDataEx")) return e;
    auto header = static_cast<const Elf64_Ehdr*>(image);
    if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return CUDA_ERROR_INVALID_PTX;
    if (header->e_type != ET_DYN) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    // section headers lie last in what the linker writes
    size_t size = header->e_shoff + size_t{header->e_shentsize} * header->e_shnum;
    // a file of its own name: dlopen takes one that it knows by name for the one it has
    char path[] = "/tmp/cudasim-XXXXXX";
    int file = mkstemp(path);
    bool written = file >= 0 && write(file, image, size) == static_cast<ssize_t>(size);
    void* library = written ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (file >= 0) {
        close(file);
        unlink(path);
    }
    if (!library) {
        const char* why = written ? dlerror() : "cannot write /tmp";
        report(std::string("module does not load: ") + why);
        return CUDA_ERROR_INVALID_IMAGE;
    }
    if (void* hooks = dlsym(library, "cudasim_hooks"))
        *static_cast<const void**>(hooks) = module_hooks();
    Guard g(sim::lock);
    auto m = new Module{library, context};
    modules.insert(m);
    *out = reinterpret_cast<CUmodule>(m);
    return CUDA_SUCCESS;
}
API cuModuleLoadData(CUmodule* out, const void* image) {
    return cuModuleLoadDataEx(out, image, 0, nullptr, nullptr);
}
API cuModuleUnload(CUmodule handle) {
    Context* context;
    if (CUresult e = check("cuModuleUnload", &context)) return e;
    if (CUresult e = breaks_capture("cuModuleUnload")) return e;
    for_each_stream([](Stream& s) { s.wait_idle(); });
    Guard g(sim::lock);
    auto m = reinterpret_cast<Module*>(handle);
    if (!modules.erase(m)) return CUDA_ERROR_INVALID_HANDLE;
    unload(m);
    return CUDA_SUCCESS;
}
API cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
    Context* context;
    if (CUresult e = check("cuModuleGetFunction", &context)) return e;
    auto m = reinterpret_cast<Module*>(handle);
    auto launch = dlsym(m->library, (std::string("cudasim_launch_") + name).c_str());
    auto about = dlsym(m->library, (std::string("cudasim_arguments_") + name).c_str());
    auto bound = dlsym(m->library, (std::string("cudasim_bound_") + name).c_str());
    if (!launch || !about || !bound) return CUDA_ERROR_NOT_FOUND;
    Guard g(sim::lock);
    auto& f = functions[{m, name}];
    if (!f) {
        f = std::make_unique<Function>();
        f->name = name;
        f->launch = reinterpret_cast<decltype(f->launch)>(launch);
        f->argument_bytes = reinterpret_cast<size_t (*)(unsigned char*)>(about)(f->pointers);
        f->most_threads = *static_cast<unsigned*>(bound);
    }
    *out = reinterpret_cast<CUfunction>(f.get());
    return CUDA_SUCCESS;
}
API cuModuleGetGlobal(CUdeviceptr* out, size_t* size, CUmodule handle, const char* name) {
    Context* context;
    if (CUresult e = check("cuModuleGetGlobal", &context)) return e;
    void* symbol = dlsym(reinterpret_cast<Module*>(handle)->library, name);
    if (!symbol) return CUDA_ERROR_NOT_FOUND;
    Dl_info info;
    void* found = nullptr;
    dladdr1(symbol, &info, &found, RTLD_DL_SYMENT);
    auto entry = static_cast<const ElfW(Sym)*>(found);
    if (out) *out = reinterpret_cast<CUdeviceptr>(symbol);
    if (size) *size = entry ? entry->st_size : 0;
    return CUDA_SUCCESS;
}
API cuFuncGetAttribute(int* v, CUfunction_attribute a, CUfunction handle) {
    auto f = reinterpret_cast<Function*>(handle);
    switch (a) {
        case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *v = static_cast<int>(f->most_threads); break;
        case CU_FUNC_ATTRIBUTE_NUM_REGS: *v = 32; break;
        case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *v = f->shared_limit; break;
        default: *v = 0;
    }
    return CUDA_SUCCESS;
}
API cuFuncSetAttribute(CUfunction handle, CUfunction_attribute a, int v) {
    auto f = reinterpret_cast<Function*>(handle);
    if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        if (v > 101376) return CUDA_ERROR_INVALID_VALUE;
        f->shared_limit = v;
    }
    return CUDA_SUCCESS;
}
API cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
// PyCUDA calls it before each prepared launch, and passes the block again with the launch.
API cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }

API cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                   unsigned by, unsigned bz, unsigned shared, CUstream stream, void** parameters,
                   void** extra) {
    Context* context;
    if (CUresult e = check("cuLaunchKernel", &context)) return e;
    auto f = reinterpret_cast<Function*>(handle);
    size_t wanted = f->argument_bytes, threads = size_t{bx} * by * bz;
    if (!gx || !gy || !gz || !threads || threads > 1024 || bz > 64 || gy > 65535 || gz > 65535) {
        report("kernel " + f->name + ": a grid or a block of a size that no device takes");
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (threads > f->most_threads) {
        report("kernel " + f->name + ": " + std::to_string(threads) + " threads a block, its " +
               "__launch_bounds__ are " + std::to_string(f->most_threads));
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    }
    if (static_cast<int>(shared) > f->shared_limit) {
        report("kernel " + f->name + ": more dynamic shared memory than it was given leave for");
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (parameters) return CUDA_ERROR_NOT_SUPPORTED;  // PyCUDA packs them
    std::vector<char> arguments;
    for (void** e = extra; e && *e != CU_LAUNCH_PARAM_END; e += 2) {
        if (e[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) arguments.resize(*static_cast<size_t*>(e[1]));
    }
    for (void** e = extra; e && *e != CU_LAUNCH_PARAM_END; e += 2) {
        if (e[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            std::memcpy(arguments.data(), e[1], arguments.size());
    }
    if (arguments.size() != wanted) {
        report("kernel " + f->name + ": " + std::to_string(arguments.size()) +
               " bytes of arguments, it takes " + std::to_string(wanted));
        return CUDA_ERROR_INVALID_VALUE;
    }
    auto launch = f->launch;
    uint64_t seed = (settings.seed * 1000003 + ++settings.launches) * 0x9E3779B97F4A7C15u;
    auto run = [=, name = f->name] {
        const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
        begin_launch(name);
        launch(arguments.data(), grid, block, shared, seed);
        begin_launch({});  // what follows is no kernel
    };
    if (!stream || stream == CU_STREAM_LEGACY) {
        if (CUresult e = breaks_capture("cuLaunchKernel on the default stream")) return e;
        for_each_stream([&](Stream& s) {
            if (s.context == context && !(s.flags & CU_STREAM_NON_BLOCKING)) s.wait_idle();
        });
        default_stream(context)->enqueue(run);
        default_stream(context)->wait_idle();
        return context->poisoned;
    }
    auto s = reinterpret_cast<Stream*>(stream);
    note_pointers(*f, arguments, s, s->enqueue(run));
    return CUDA_SUCCESS;
}

extern "C" size_t cudasim_modules(void) {
    Guard g(sim::lock);
    return modules.size();
}
