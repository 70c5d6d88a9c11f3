// Products with weights in 8 bits, such as the output head of a language model: integers with a float32 scale for each
// row. A C interface for ctypes; the caller chooses the path (AVX-512, AVX2, portable).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "processor.h"
#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HARNESS_EMULATED_AVX512)  // for tests: a header that implements the intrinsics in plain C++
#include HARNESS_EMULATED_AVX512
#endif

namespace {

constexpr int kLine = 64;         // bytes of a cache line
constexpr int kAhead = 4096;      // bytes to prefetch ahead in rows that follow one another
constexpr int kSoon = 2048;       // the same in each of several rows that lie far apart
constexpr int kTogether = 4;      // inputs for which integers are converted once
constexpr int64_t kShare = 32768; // weights that are worth a thread's while

struct Product {
    const int8_t* codes;  // (rows, columns)
    const float* scales;  // (rows)
    int64_t rows, columns;
    const float* x;       // (inputs, columns)
    int64_t inputs;
    float* out;           // (inputs, rows)
    bool far;             // whether rows that are multiplied together lie far apart
};

// Rows that are multiplied together: the first, the distance from one to the next, and the bytes to prefetch ahead.
struct Group {
    int64_t row, apart;
    int ahead;
};

#define HARNESS_KERNELS "bytes.h"
#include "paths.h"

using Multiply = void (*)(const Product&, int64_t, int64_t);

const Multiply kMultiply[] = {
    portable::multiply,
#if defined(__x86_64__)
    avx2::multiply,
    avx512::multiply,
#endif
};

}  // namespace

// Multiply x (inputs, columns) by the transposed matrix (rows, columns) of integers times the scales of their rows, to
// out (inputs, rows), in float32. ``path`` is as in harness_supported, up to AVX-512.
extern "C" void harness_multiply_bytes(int path, int threads, const int8_t* codes, const float* scales, int64_t rows,
                                       int64_t columns, const float* x, int64_t inputs, float* out) {
    const Product of{codes, scales, rows, columns, x, inputs, out, prefetches()};
    const int64_t grain = (kShare / std::max<int64_t>(1, columns) + 4) / 4 * 4;
    threads::share(rows, grain, threads, [&](int64_t begin, int64_t end) { kMultiply[path](of, begin, end); });
}
