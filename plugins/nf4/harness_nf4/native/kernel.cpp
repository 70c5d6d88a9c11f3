// Four-bit codebook quantisation on a processor. A byte holds two codes, the first in its high half, as bitsandbytes
// packs codes. Every block of the flattened weights has a float32 scale, the block's largest absolute value.
//
// A C interface for ctypes. The path (AMX, AVX-512, AVX2, portable) is chosen at run time. Work is shared among the threads
// of a pool that the caller hands in (threads.h).

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "processor.h"
#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(HARNESS_EMULATED_AVX512)  // for tests: a header that implements the intrinsics in plain C++
#include HARNESS_EMULATED_AVX512
#endif

namespace {

constexpr int kBlock = 64;          // columns that share a scale in the products
constexpr float kFixed = 16383;     // largest fixed-point integer: a word sums 8 products in a block, which fit 31 bits
constexpr float kFixedLane = 5792;  // the same where a word sums all 64 products of a block
constexpr float kNoFraction = 12582912;  // 1.5 * 2^23: float32 has no fraction bits at this size
constexpr float kSmallest = 1e-30f; // the scale of smaller activations would lose digits
constexpr int kAhead = 4096;        // bytes to prefetch ahead in a row of codes
constexpr int kFew = 8;             // inputs that are multiplied together with each vector of looked-up codes
constexpr int kStreams = 2;         // rows that are multiplied together with few inputs
constexpr int kMoreStreams = 4;     // the same with one input, where there are kEnough weights and it prefetches
constexpr int64_t kEnough = 1 << 19;
constexpr int kRows = 4;            // rows of a tile
constexpr int kPanel = 1024;        // columns decoded at a time: kRows rows of them fit into the L1 cache
constexpr int kInterleaved = 16;    // rows whose codes are interleaved
constexpr int kTogether = 8;        // inputs that are multiplied with each interleaved vector of codes
constexpr int kSoon = 1024;         // bytes to prefetch ahead in each of several runs of codes
constexpr int64_t kKept = 1 << 18;  // bytes of interleaved codes that stay in the second cache for all inputs
constexpr float kDoubt = 2.4e-7f;   // closer to a bound float32 is ambiguous: the error of two roundings, with a margin

struct Weights {
    const uint8_t* codes;
    const float* absmax;          // scales by block, or null where the scales are quantised too:
    const int8_t* small_absmax;   //   scale = mean + small_absmax * group_scale, in groups of ``group`` blocks
    const float* group_scale;
    float mean;
    int64_t group;
    int64_t rows, columns, block;
    float levels[16];

    float scale(int64_t of_block) const {
        return absmax ? absmax[of_block] : mean + static_cast<float>(small_absmax[of_block]) * group_scale[of_block / group];
    }
    // Write the scales of ``count`` pieces of 64 weights, starting with piece ``first``.
    void scales(int64_t first, int64_t count, float* out) const {
        if (absmax && block == kBlock) {
            std::memcpy(out, absmax + first, static_cast<size_t>(count) * sizeof *out);
            return;
        }
        if (block == kBlock) {  // by group: a division for each scale would take longer than the product of its weights
            for (int64_t i = 0; i < count;) {
                const int64_t of = (first + i) / group, end = std::min(count, (of + 1) * group - first);
                for (const float step = group_scale[of]; i < end; ++i)
                    out[i] = mean + static_cast<float>(small_absmax[first + i]) * step;
            }
            return;
        }
        for (int64_t i = 0; i < count; ++i) out[i] = scale((first + i) * kBlock / block);
    }
    // Return such scales, in ``room`` where they are not stored as they are.
    const float* scales_of(int64_t first, int64_t count, float* room) const {
        if (absmax && block == kBlock) return absmax + first;
        scales(first, count, room);
        return room;
    }
    int code(int64_t at) const { return at % 2 ? codes[at / 2] & 15 : codes[at / 2] >> 4; }
};

struct Rounding {
    double exact_bounds[15];
    float bounds[16];
    int32_t names[16];  // the code of each level, from the lowest level up
    int zero;           // the code of the level nearest to 0
    bool sorted;

    // Return the code of the level nearest to weight / scale; of two equally near levels the lower. Comparisons are
    // in float64, as in the definition.
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

// Inputs in fixed point: ``values`` has the shape (inputs, columns), ``scales`` the shape (inputs, columns / 64), where
// ``columns`` are those of the weights, filled up with zeros to whole vectors.
struct Fixed {
    const int16_t* values;
    const float* scales;
    int64_t inputs, columns;
};

// Inputs in fixed point for interleaved codes, in parts of up to kTogether: for each pair of columns one word for each
// input of the part, and for every 64 columns a scale for each.
struct Interleaved {
    int64_t inputs, columns, parts;
    std::unique_ptr<uint32_t[]> words;
    std::unique_ptr<float[]> scales;

    Interleaved(int64_t inputs, int64_t columns)
        : inputs(inputs), columns(columns), parts((inputs + kTogether - 1) / kTogether),
          words(new uint32_t[static_cast<size_t>(inputs * columns / 2)]),
          scales(new float[static_cast<size_t>(inputs * columns / kBlock)]) {}
    int64_t first(int64_t part) const { return inputs * part / parts; }  // the first input of a part
    int64_t count(int64_t part) const { return first(part + 1) - first(part); }
    uint32_t* words_of(int64_t part) const { return words.get() + first(part) * columns / 2; }
    float* scales_of(int64_t part) const { return scales.get() + first(part) * columns / kBlock; }
};

// Return the largest absolute value of ``count`` floats and of the float whose bits are ``bits``. The comparison is of
// bits without the sign, in which a NaN is larger than any number.
float largest_of(int32_t bits, const float* more, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        int32_t element;
        std::memcpy(&element, more + i, sizeof element);
        bits = std::max(bits, element & 0x7fffffff);
    }
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return scale;
}

// Write ``count`` activations as floats: copies, or those whose upper halves are given.
inline void widen(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }
inline void widen(const uint16_t* from, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
        std::memcpy(to + i, &bits, sizeof bits);
    }
}

// Write products as they are, or rounded to the nearest bfloat16, of two as near the even one.
inline void narrow(const float* from, int64_t count, float* to) { std::copy_n(from, count, to); }
inline void narrow(const float* from, int64_t count, uint16_t* to) {
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, from + i, sizeof bits);
        const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        to[i] = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
    }
}

// Compilers from GCC 11 and Clang 12 on have the instructions of AMX; how a process asks for its tiles is Linux's own.
#if defined(HARNESS_EMULATED_AVX512) || (defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12))
#define HARNESS_AMX
#endif
#define HARNESS_KERNELS "kernels.h"
#define HARNESS_INTERLEAVED "interleaved.h"
#define HARNESS_TILES "tiles.h"
#include "paths.h"

struct Path {
    decltype(&portable::arrange) arrange;
    decltype(&portable::multiply_few) multiply_few;
    decltype(&portable::multiply_many) multiply_many;
    decltype(&portable::multiply_exact) multiply_exact;
    decltype(&portable::expand) expand;
    decltype(&portable::compress) compress;
    bool halves;  // whether there is a product in bfloat16
    int64_t filled;  // a multiple of columns in fixed point
};

#define HARNESS_PATH(of, halves)                                                                              \
    {                                                                                                         \
        of::arrange, of::multiply_few, of::multiply_many, of::multiply_exact, of::expand, of::compress, halves, \
            2 * of::Lanes::width                                                                              \
    }

const Path kPaths[] = {
    HARNESS_PATH(portable, false),
#if defined(__x86_64__)
    HARNESS_PATH(avx2, false),
    HARNESS_PATH(avx512, false),
    HARNESS_PATH(avx512_bf16, true),
    HARNESS_PATH(avx512_bf16, true),
#endif
};

#if defined(__x86_64__) && defined(HARNESS_AMX) && !defined(HARNESS_EMULATED_AVX512)
// Return whether the processor has tiles and products of bfloat16 in them, and Linux lets this process use them, which it
// has to be asked for: it then keeps the 8 KiB of each thread's tiles.
bool tiles_allowed() {
    static const bool allowed = [] {
        unsigned a, b, c, d;
        if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;
        constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
        return syscall(SYS_arch_prctl, request, tile_data) == 0;
    }();
    return allowed;
}
#endif

bool supported(int path) {
    if (path == 0) return true;
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (path == 1) return avx2;
#if defined(HARNESS_EMULATED_AVX512)
    if (path >= 2) return avx2;
#else
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq");
    if (path == 2) return avx512;
    const bool halves = avx512 && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
                        __builtin_cpu_supports("avx512bf16");
    if (path == 3) return halves;
#if defined(HARNESS_AMX)
    if (path == 4) return halves && tiles_allowed();
#endif
#endif
#endif
    return false;
}

// Multiply x by the rows from ``first`` on in fixed point, as harness_multiply in float32.
int multiply_fixed(int path, int threads, const Weights& w, int64_t first, const float* x, int64_t inputs, float* out) {
    const Path& with = kPaths[path];
    const int64_t filled = (w.columns + with.filled - 1) / with.filled * with.filled, blocks = filled / kBlock;
    std::unique_ptr<int16_t[]> fixed(new int16_t[static_cast<size_t>(inputs * filled)]);
    std::unique_ptr<float[]> scales(new float[static_cast<size_t>(inputs * blocks)]);
    for (int64_t c = 0; c < inputs; ++c)
        if (!with.arrange(x + c * w.columns, w.columns, filled, fixed.get() + c * filled, scales.get() + c * blocks)) return 1;
    const Fixed arranged{fixed.get(), scales.get(), inputs, filled};
    const int64_t grain = std::max<int64_t>(kRows, (32768 / w.columns + kRows) / kRows * kRows);
    threads::share(w.rows - first, grain, threads, [&](int64_t begin, int64_t end) {
        if (inputs <= kFew) {
            std::vector<float> buffer(static_cast<size_t>(kMoreStreams * inputs * blocks));
            with.multiply_few(w, arranged, first + begin, first + end, out, buffer.data());
        } else {
            with.multiply_many(w, arranged, first + begin, first + end, out, w.rows);
        }
    });
    return 0;
}

// The same with inputs and products in bfloat16; ``out`` is as wide as all rows.
int multiply_fixed(int path, int threads, const Weights& w, int64_t first, const uint16_t* x, int64_t inputs, uint16_t* out) {
    std::unique_ptr<float[]> wide(new float[static_cast<size_t>(inputs * w.columns)]);
    std::unique_ptr<float[]> products(new float[static_cast<size_t>(inputs * w.rows)]);
    widen(x, inputs * w.columns, wide.get());
    if (multiply_fixed(path, threads, w, first, wide.get(), inputs, products.get())) return 1;
    for (int64_t i = 0; i < inputs; ++i)
        narrow(products.get() + i * w.rows + first, w.rows - first, out + i * w.rows + first);
    return 0;
}

#if defined(__x86_64__)
// Multiply by interleaved codes through the functions of a path; further rows, whose codes lie in rows, by another product.
template <typename Number>
int multiply_by_lanes(int path, int threads, const Weights& w, const Number* x, int64_t inputs, Number* out) {
    const bool dots = path >= 3;
    const auto arrange = dots ? avx512_bf16::arrange_words<Number> : avx512::arrange_words<Number>;
    const auto multiply = dots ? avx512_bf16::multiply_interleaved<Number> : avx512::multiply_interleaved<Number>;
    const Interleaved arranged(inputs, w.columns);
    std::atomic<bool> fits{true};
    threads::share(arranged.parts, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part)
            for (int64_t i = 0; i < arranged.count(part); ++i)
                if (!arrange(x + (arranged.first(part) + i) * w.columns, w.columns, arranged.count(part),
                             arranged.words_of(part) + i, arranged.scales_of(part) + i))
                    fits = false;
    });
    if (!fits) return 1;
    const int64_t whole = w.rows / kInterleaved, first = whole * kInterleaved;
    threads::share(whole, 4, threads, [&](int64_t begin, int64_t end) { multiply(w, arranged, begin, end, out); });
    return first < w.rows ? multiply_fixed(path, threads, w, first, x, inputs, out) : 0;
}

// Multiply a few inputs in bfloat16, with codes in rows; return 0.
int multiply_few_halves(int threads, const Weights& w, const uint16_t* x, int64_t inputs, uint16_t* out) {
    const avx512_bf16::Packed packed(inputs, w.columns);
    threads::share(packed.parts, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) packed.pack(x, part);
    });
    threads::share(w.rows, avx512_bf16::kLanes, threads, [&](int64_t begin, int64_t end) {
        avx512_bf16::multiply_fused(w, packed, begin, end, out);
    });
    return 0;
}

// Multiply many inputs in bfloat16; return 1, with ``out`` unfinished, where a scale has no place in bfloat16.
template <typename Products>
int multiply_many_halves(int threads, const Weights& w, bool interleaved, const uint16_t* x, int64_t inputs, uint16_t* out) {
    const avx512_bf16::Operand operand(inputs, w.columns, Products::kColumns);
    threads::share(operand.parts, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t part = begin; part < end; ++part) operand.pack(x, part);
    });
    const avx512_bf16::Source source{w, interleaved};
    std::atomic<bool> sound{true};
    threads::share(w.rows, Products::kRows, threads, [&](int64_t begin, int64_t end) {
        if (!avx512_bf16::multiply_operand<Products>(source, operand, begin, end, out)) sound = false;
    });
    return !sound;
}

// Multiply inputs in bfloat16 by dot products, as harness_multiply_halves. Up to kPart inputs beyond a multiple of the 16 of a
// vector are multiplied like few ones: to multiply as many zeros beside them as a vector has room for would take longer.
int multiply_halves_by_dots(int path, int threads, const Weights& w, bool interleaved, const uint16_t* x, int64_t inputs,
                            uint16_t* out) {
    using namespace avx512_bf16;
    if (!interleaved && inputs <= kFused) return multiply_few_halves(threads, w, x, inputs, out);
    const int64_t left = inputs % kLanes, whole = inputs - left;
    if (whole && left && left <= kPart) {
        const uint16_t* few = x + whole * w.columns;
        uint16_t* to = out + whole * w.rows;
        const int failed = interleaved ? multiply_by_lanes(path, threads, w, few, left, to)
                                       : multiply_few_halves(threads, w, few, left, to);
        if (!failed) inputs = whole;
    }
    return multiply_many_halves<Dots>(threads, w, interleaved, x, inputs, out);
}
#endif

}  // namespace

std::atomic<threads::Parallel> threads::pool{nullptr};

extern "C" {

// Quantised weights, in the same layout as in kernel.py.
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

int harness_prefers_integers() { return prefers_integers(); }

void harness_use_pool(void* parallel) { threads::pool.store(reinterpret_cast<threads::Parallel>(parallel)); }

static Weights weights_of(const HarnessWeights* given) {
    Weights w{given->codes, given->absmax, given->small_absmax, given->group_scale, static_cast<float>(given->mean),
              given->group, given->rows, given->columns, given->block, {}};
    std::copy_n(given->levels, 16, w.levels);
    return w;
}

// Quantise ``count`` weights to codes ((count + 1) / 2 bytes) and scales (one for each block). ``block`` is even.
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
    threads::share((count + block - 1) / block, grain, threads, [&](int64_t begin, int64_t end) {
        kPaths[path].compress(rounding, weights, count, block, begin, end, codes, scales);
    });
}

// Write the weights [begin, end) of the flattened matrix.
void harness_dequantize(int path, int threads, const HarnessWeights* given, int64_t begin, int64_t end, float* out) {
    const Weights w = weights_of(given);
    threads::share(end - begin, 32768, threads, [&](int64_t from, int64_t to) {
        kPaths[path].expand(w, begin + from, begin + to, out + from);
    });
}

// Multiply x (inputs, columns) by the transposed matrix (rows, columns) to out (inputs, rows), in 16-bit fixed point.
// The number of columns and the block length are multiples of 64. Return 0; or return 1, with ``out`` unchanged, where
// an activation cannot be represented in fixed point. With ``halves`` x and out are in bfloat16, else in float32.
int harness_multiply(int path, int threads, const HarnessWeights* given, int halves, const void* x, int64_t inputs,
                     void* out) {
    const Weights w = weights_of(given);
    return halves ? multiply_fixed(path, threads, w, 0, static_cast<const uint16_t*>(x), inputs, static_cast<uint16_t*>(out))
                  : multiply_fixed(path, threads, w, 0, static_cast<const float*>(x), inputs, static_cast<float*>(out));
}

// Write ``words`` words of 32 bits in each row with those of every kInterleaved rows interleaved, or, if ``back``, such
// words in rows: first that of the first row, then that of the second. Further rows stay as they are.
void harness_interleave(const uint8_t* from, int64_t rows, int64_t words, int back, uint8_t* out) {
    const int64_t whole = rows / kInterleaved, group = kInterleaved * words;
    for (int64_t g = 0; g < whole; ++g)
        for (int64_t word = 0; word < words; ++word)
            for (int64_t row = 0; row < kInterleaved; ++row) {
                const int64_t in_rows = g * group + row * words + word, together = g * group + word * kInterleaved + row;
                std::memcpy(out + 4 * (back ? in_rows : together), from + 4 * (back ? together : in_rows), 4);
            }
    std::memcpy(out + 4 * whole * group, from + 4 * whole * group, static_cast<size_t>(4 * (rows * words - whole * group)));
}

// The same as harness_multiply with codes that harness_interleave wrote, in words of eight columns, and scales, if there
// is a float for every 64 weights. There are kInterleaved rows or more. With ``halves`` x and out are in bfloat16. Return 1 also where the path has no such product.
int harness_multiply_interleaved(int path, int threads, const HarnessWeights* given, int halves, const void* x, int64_t inputs,
                                 void* out) {
#if defined(__x86_64__)
    if (path < 2) return 1;
    const Weights w = weights_of(given);
    return halves ? multiply_by_lanes(path, threads, w, static_cast<const uint16_t*>(x), inputs, static_cast<uint16_t*>(out))
                  : multiply_by_lanes(path, threads, w, static_cast<const float*>(x), inputs, static_cast<float*>(out));
#else
    return 1;
#endif
}

// Multiply x (inputs, columns) by the transposed matrix (rows, columns) to out (inputs, rows), all in bfloat16. Codes, and
// scales as of harness_multiply_interleaved, are interleaved where that is said. Without tiles, up to kPart inputs left over
// from vectors of 16 are then multiplied in fixed point. The number of columns and the block length are multiples of 64. Return 0; or
// return 1, with ``out`` unfinished, where the path has no such product, or weights are rounded and a scale has no place in bfloat16.
int harness_multiply_halves(int path, int threads, const HarnessWeights* given, int interleaved, const uint16_t* x,
                            int64_t inputs, uint16_t* out) {
#if defined(__x86_64__)
    if (!kPaths[path].halves) return 1;
    const Weights w = weights_of(given);
#if defined(HARNESS_AMX)
    if (path == 4) return multiply_many_halves<avx512_bf16::TileProducts>(threads, w, interleaved, x, inputs, out);
#endif
    return multiply_halves_by_dots(path, threads, w, interleaved, x, inputs, out);
#else
    return 1;
#endif
}

// Multiply x (columns) by the transposed matrix (rows, columns) to out (rows), in float32.
void harness_multiply_exact(int path, int threads, const HarnessWeights* given, const float* x, float* out) {
    const Weights w = weights_of(given);
    threads::share(w.rows, std::max<int64_t>(1, 32768 / w.columns), threads, [&](int64_t begin, int64_t end) {
        std::vector<float> buffer(static_cast<size_t>(w.columns / kBlock));
        kPaths[path].multiply_exact(w, x, begin, end, out, buffer.data());
    });
}

}  // extern "C"
