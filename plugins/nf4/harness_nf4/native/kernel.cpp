// Four-bit codebook quantisation on a processor: codes of two a byte, the first in the high half, as bitsandbytes packs
// them, and a float32 scale (the largest absolute value) for every block of the flattened weights.
//
// A C interface for ctypes. The path (AVX-512, AVX2, portable) is chosen at run time; work is shared through the
// thread pool whose GOMP_parallel one hands in, so that no threads beside the caller's are made.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HARNESS_EMULATED_AVX512)  // a header that says in plain C++ what the intrinsics do: for tests
#include HARNESS_EMULATED_AVX512
#endif

namespace {

constexpr int kBlock = 64;          // columns that share a scale in the products
constexpr float kFixed = 16383;     // 8 products of two such integers fit into 31 bits: what a word sums in a block
constexpr float kNoFraction = 12582912;  // 1.5 * 2^23: a float32 this large is a whole number
constexpr float kSmallest = 1e-30f; // below it an activation's scale would lose digits
constexpr int kAhead = 4096;        // bytes to prefetch ahead in a row of codes
constexpr int kRows = 4;            // rows of a tile
constexpr int kPanel = 1024;        // columns decoded at a time: four rows of them stay in the first cache
constexpr float kDoubt = 2.4e-7f;   // how close to a bound float32 can't tell the side: two roundings and some

struct Weights {
    const uint8_t* codes;
    const float* absmax;          // by block, or null where they are quantised themselves:
    const int8_t* small_absmax;   //   absmax = mean + small_absmax * group_scale, in groups of group blocks
    const float* group_scale;
    float mean;
    int64_t group;
    int64_t rows, columns, block;
    float levels[16];

    float scale(int64_t of_block) const {
        return absmax ? absmax[of_block] : mean + static_cast<float>(small_absmax[of_block]) * group_scale[of_block / group];
    }
    // Scales of ``count`` pieces of 64 weights from piece ``first`` on.
    void scales(int64_t first, int64_t count, float* out) const {
        if (absmax && block == kBlock) {
            std::memcpy(out, absmax + first, static_cast<size_t>(count) * sizeof *out);
            return;
        }
        if (block == kBlock) {  // group by group: a division for each would take longer than the weights
            for (int64_t i = 0; i < count;) {
                const int64_t of = (first + i) / group, end = std::min(count, (of + 1) * group - first);
                for (const float step = group_scale[of]; i < end; ++i)
                    out[i] = mean + static_cast<float>(small_absmax[first + i]) * step;
            }
            return;
        }
        for (int64_t i = 0; i < count; ++i) out[i] = scale((first + i) * kBlock / block);
    }
    int code(int64_t at) const { return at % 2 ? codes[at / 2] & 15 : codes[at / 2] >> 4; }
};

struct Rounding {
    double exact_bounds[15];
    float bounds[16];
    int32_t names[16];  // the code of each level, from the lowest level up
    int zero;           // the code of the level nearest to 0
    bool sorted;

    // The nearest level's code, the lower level's where two are as near: settled in float64, as the definition is.
    int code(float weight, float scale) const {
        const double n = static_cast<double>(weight) / static_cast<double>(scale);
        int index = 0;
        while (index < 15 && n > exact_bounds[index]) ++index;
        return names[index];
    }
    void fill(uint8_t* to, int64_t length) const {
        std::memset(to, zero << 4 | zero, static_cast<size_t>(length / 2));
        if (length % 2) to[length / 2] = static_cast<uint8_t>(zero << 4);
    }
};

// Inputs in fixed point: values (inputs, columns), scales (inputs, columns / 64).
struct Fixed {
    const int16_t* values;
    const float* scales;
    int64_t inputs;
};

// The scale of a block of which ``bits`` are of the largest so far; a NaN is larger than all.
float largest_of(int32_t bits, const float* more, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        int32_t one;
        std::memcpy(&one, more + i, sizeof one);
        bits = std::max(bits, one & 0x7fffffff);
    }
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

#define HARNESS_KERNELS "kernels.h"
#include "paths.h"

struct Path {
    decltype(&portable::arrange) arrange;
    decltype(&portable::multiply_one) multiply_one;
    decltype(&portable::multiply_many) multiply_many;
    decltype(&portable::multiply_exact) multiply_exact;
    decltype(&portable::expand) expand;
    decltype(&portable::compress) compress;
};

#define HARNESS_PATH(of) \
    { of::arrange, of::multiply_one, of::multiply_many, of::multiply_exact, of::expand, of::compress }

const Path kPaths[] = {
    HARNESS_PATH(portable),
#if defined(__x86_64__)
    HARNESS_PATH(avx2),
    HARNESS_PATH(avx512),
#endif
};

bool supported(int path) {
    if (path == 0) return true;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (path == 1) return avx2;
#if defined(HARNESS_EMULATED_AVX512)
    if (path == 2) return avx2;
#else
    if (path == 2)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq");
#endif
#endif
    return false;
}

using Region = void (*)(void*);
using Parallel = void (*)(Region, void*, unsigned, unsigned);
std::atomic<Parallel> pool{nullptr};

// Calls work(begin, end) on pieces of [0, count), each a multiple of ``grain`` but for the last.
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
    // However many threads come, each takes pieces until none is left.
    const Region region = [](void* given) {
        Context& c = *static_cast<Context*>(given);
        for (int64_t begin; (begin = c.next.fetch_add(c.piece)) < c.count;)
            c.work(begin, std::min(c.count, begin + c.piece));
    };
    parallel(region, &context, static_cast<unsigned>(threads), 0);
}

}  // namespace

extern "C" {

// What weights are made of; the same layout as in kernel.py.
struct HarnessWeights {
    const uint8_t* codes;
    const float* absmax;
    const int8_t* small_absmax;
    const float* group_scale;
    double mean;
    int64_t group, rows, columns, block;
    float levels[16];
};

struct HarnessRounding {
    double bounds[15];
    int32_t names[16];
    int32_t zero;
};

int harness_supported(int path) { return supported(path); }

void harness_use_pool(void* parallel) { pool.store(reinterpret_cast<Parallel>(parallel)); }

static Weights weights_of(const HarnessWeights* given) {
    Weights w{given->codes, given->absmax, given->small_absmax, given->group_scale, static_cast<float>(given->mean),
              given->group, given->rows, given->columns, given->block, {}};
    std::copy_n(given->levels, 16, w.levels);
    return w;
}

// Codes ((count + 1) / 2 bytes) and scales (one a block) of ``count`` weights. Blocks are even.
void harness_quantize(int path, int threads, const HarnessRounding* given, const float* weights, int64_t count,
                      int64_t block, uint8_t* codes, float* scales) {
    Rounding rounding{};
    std::copy_n(given->bounds, 15, rounding.exact_bounds);
    std::copy_n(given->names, 16, rounding.names);
    rounding.zero = given->zero;
    rounding.sorted = true;
    for (int i = 0; i < 16; ++i) rounding.sorted &= given->names[i] == i;
    for (int i = 0; i < 15; ++i) rounding.bounds[i] = static_cast<float>(given->bounds[i]);
    const int64_t grain = std::max<int64_t>(1, 32768 / block);
    share((count + block - 1) / block, grain, threads, [&](int64_t begin, int64_t end) {
        kPaths[path].compress(rounding, weights, count, block, begin, end, codes, scales);
    });
}

// Weights [begin, end) of the flattened matrix.
void harness_dequantize(int path, int threads, const HarnessWeights* given, int64_t begin, int64_t end, float* out) {
    const Weights w = weights_of(given);
    share(end - begin, 32768, threads, [&](int64_t from, int64_t to) {
        kPaths[path].expand(w, begin + from, begin + to, out + from);
    });
}

// x (inputs, columns) times the transposed matrix (rows, columns) to out (inputs, rows), in 16-bit fixed point.
// Columns and blocks are multiples of 64. Returns 0, or 1 and nothing where an activation does not fit.
int harness_multiply(int path, int threads, const HarnessWeights* given, const float* x, int64_t inputs, float* out) {
    const Weights w = weights_of(given);
    const Path& with = kPaths[path];
    const int64_t blocks = w.columns / kBlock;
    std::unique_ptr<int16_t[]> fixed(new int16_t[static_cast<size_t>(inputs * w.columns)]);
    std::unique_ptr<float[]> scales(new float[static_cast<size_t>(inputs * blocks)]);
    for (int64_t c = 0; c < inputs; ++c)
        if (!with.arrange(x + c * w.columns, w.columns, fixed.get() + c * w.columns, scales.get() + c * blocks)) return 1;
    const Fixed arranged{fixed.get(), scales.get(), inputs};
    share(w.rows, std::max<int64_t>(kRows, (32768 / w.columns + kRows) / kRows * kRows), threads,
          [&](int64_t begin, int64_t end) {
              if (inputs == 1) {
                  std::vector<float> buffer(static_cast<size_t>(blocks));
                  with.multiply_one(w, arranged.values, arranged.scales, begin, end, out, buffer.data());
              } else {
                  with.multiply_many(w, arranged, begin, end, out, w.rows);
              }
          });
    return 0;
}

// x (columns) times the transposed matrix to out (rows), in float32.
void harness_multiply_exact(int path, int threads, const HarnessWeights* given, const float* x, float* out) {
    const Weights w = weights_of(given);
    share(w.rows, std::max<int64_t>(1, 32768 / w.columns), threads, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(static_cast<size_t>(w.columns / kBlock));
        kPaths[path].multiply_exact(w, x, begin, end, out, buffer.data());
    });
}

}  // extern "C"
