// Streams are threads whose work starts late by chance; events are marks in them.

#include "sim.hpp"

#include <chrono>

namespace sim {

namespace {
std::map<uint64_t, Stream*> streams;
std::map<Context*, Stream*> defaults;
uint64_t next_id = 1;
}  // namespace

int64_t now_ns() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

Stream::Stream(uint64_t, unsigned flags_, Context* context_)
    : id(next_id++), flags(flags_), context(context_), chance_(settings.seed * 1000003 + id) {
    Guard g(lock);
    streams[id] = this;
    thread_ = std::thread([this] { run(); });
}

Stream::~Stream() {
    wait_idle();
    {
        std::lock_guard<std::mutex> m(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
    Guard g(lock);
    streams.erase(id);
}

uint64_t Stream::enqueue(std::function<void()> work) {
    if (capture) {
        capture->work.push_back(std::move(work));
        return 0;
    }
    std::lock_guard<std::mutex> m(mutex_);
    queue_.push_back(std::move(work));
    clock[id] = ++enqueued_;
    changed_.notify_all();
    return enqueued_;
}

void Stream::run() {
    for (;;) {
        std::function<void()> work;
        int delay_us = 0;
        {
            std::unique_lock<std::mutex> m(mutex_);
            changed_.wait(m, [this] { return ending_ || !queue_.empty(); });
            if (queue_.empty()) return;
            work = std::move(queue_.front());
            queue_.pop_front();
            if (settings.delay_us > 0)
                delay_us = static_cast<int>(chance_() % (settings.delay_us + 1));
        }
        if (delay_us) std::this_thread::sleep_for(std::chrono::microseconds(delay_us));
        // After a fault nothing runs any more: the context is lost.
        if (context->poisoned == CUDA_SUCCESS && !run_guarded(work))
            context->poisoned = CUDA_ERROR_ILLEGAL_ADDRESS;
        {
            std::lock_guard<std::mutex> m(mutex_);
            ++finished_;
        }
        changed_.notify_all();
    }
}

void Stream::wait_idle() {
    std::unique_lock<std::mutex> m(mutex_);
    changed_.wait(m, [this] { return finished_ == enqueued_; });
}

bool Stream::idle() {
    std::lock_guard<std::mutex> m(mutex_);
    return finished_ == enqueued_;
}

void Stream::wait_for(const Event& event) {
    if (!event.recorded) return;
    auto done = event.done;
    Context* c = context;
    enqueue([done, c] {
        while (!*done && c->poisoned == CUDA_SUCCESS) std::this_thread::yield();
    });
    merge(clock, event.clock);
}

Stream* default_stream(Context* context) {
    Guard g(lock);
    auto& stream = defaults[context];
    if (!stream) stream = new Stream(0, CU_STREAM_DEFAULT, context);
    return stream;
}

bool is_stream(Stream* stream) {
    Guard g(lock);
    for (auto& [_, s] : streams)
        if (s == stream) return true;
    return false;
}

size_t abandon_streams(Context* context) {
    size_t count = 0;
    Stream* own = nullptr;
    {
        Guard g(lock);
        if (auto at = defaults.find(context); at != defaults.end()) own = at->second;
        defaults.erase(context);
    }
    for_each_stream([&](Stream& s) {
        if (s.context != context) return;
        count += &s != own;
        delete &s;
    });
    return count;
}

void for_each_stream(const std::function<void(Stream&)>& f) {
    std::vector<Stream*> all;
    {
        Guard g(lock);
        for (auto& [_, s] : streams) all.push_back(s);
    }
    for (auto* s : all) f(*s);
}

extern "C" size_t cudasim_streams(void) {
    Guard g(lock);
    return streams.size() - defaults.size();
}

}  // namespace sim
