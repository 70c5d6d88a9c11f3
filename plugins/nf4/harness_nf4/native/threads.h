// Shares work among the threads of the pool whose function GOMP_parallel the caller of the library handed in, so that the
// library starts no threads of its own.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace threads {

using Region = void (*)(void*);
using Parallel = void (*)(Region, void*, unsigned, unsigned);

extern std::atomic<Parallel> pool;  // null until the caller hands one in: work is then done by the calling thread

// Call work(begin, end) on pieces of [0, count). The length of every piece but the last is a multiple of ``grain``.
template <typename Work>
void share(int64_t count, int64_t grain, int threads, const Work& work) {
    const Parallel parallel = pool.load();
    const int64_t grains = (count + grain - 1) / grain;
    if (threads <= 1 || parallel == nullptr || grains <= 1) {
        if (count > 0) work(int64_t{0}, count);
        return;
    }
    const int64_t piece = (grains + 4 * threads - 1) / (4 * threads) * grain;
    struct Context {
        const Work& work;
        std::atomic<int64_t> next;
        int64_t count, piece;
    } context{work, {0}, count, piece};
    // Every thread takes pieces until none is left, so that any number of threads finishes the work.
    const Region region = [](void* given) {
        Context& c = *static_cast<Context*>(given);
        for (int64_t begin; (begin = c.next.fetch_add(c.piece)) < c.count;)
            c.work(begin, std::min(c.count, begin + c.piece));
    };
    parallel(region, &context, static_cast<unsigned>(threads), 0);
}

}  // namespace threads
