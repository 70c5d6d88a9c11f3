// Softmax of rows of float32 by four algorithms. The algorithms differ only in their passes over a row: all use the
// same exponential and the same summation. A C interface for ctypes; the caller chooses the path (AVX-512, AVX2,
// portable).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "threads.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HARNESS_EMULATED_AVX512)  // for tests: a header that implements the intrinsics in plain C++
#include HARNESS_EMULATED_AVX512
#endif

namespace {

// exp(t) = 1 + t (kExp[0] + t (kExp[1] + ...)) with a relative error below 1e-7 for |t| <= 0.35: the coefficients
// minimise the largest relative error.
constexpr float kExp[] = {0x1.fffff6p-1f, 0x1.fffdb0p-2f, 0x1.555a7ap-3f, 0x1.574374p-5f, 0x1.0fac72p-7f};
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2 = 0x1.62e43p-1f, kLn2Rest = -0x1.05c610p-29f;  // ln 2 to 49 bits
constexpr float kFar = 65536;        // beyond this exponent n, x - n ln 2 loses digits
constexpr float kLeast = -131072;    // smaller numbers count as this one, whose exponential is negligible
constexpr float kLowest = -0x1.fffffep127f;
constexpr int kVectors = 4;          // vectors of a group
constexpr int kAhead = 512;          // numbers to prefetch ahead in a row
constexpr int64_t kBlock = 4096;     // numbers summed in float32; the sums of blocks are added in float64
constexpr int64_t kParts = 64;       // parts of a row that threads share, at most
constexpr int64_t kShare = 16384;    // numbers that are worth a thread's while

struct Row {
    const float* x;
    float* y;
    int64_t columns;
    int threads;
};

// What a pass found in a part of a row; each kind of pass sets the fields that it joins.
struct Found {
    double total = 0, exponent = 0;
    float most = 0;
    bool far = false;
};

// Return the length of the parts of a row that are taken one by one: whole blocks, whatever the number of threads.
int64_t part_length(int64_t columns) {
    return std::max(2 * kBlock, (columns + kParts * kBlock - 1) / (kParts * kBlock) * kBlock);
}

// The number m * 2^n, which may be too large or too small for a float64.
struct Scaled {
    double m, n;
};

Scaled plus(Scaled a, Scaled b) {
    if (a.n < b.n) std::swap(a, b);
    return {a.m + std::ldexp(b.m, static_cast<int>(std::max(b.n - a.n, -2000.0))), a.n};
}

// For what loops consist of: a compiler that finds it in many loops would rather call it.
#define HARNESS_INLINED __attribute__((always_inline))

#define HARNESS_KERNELS "softmax.h"
#define HARNESS_REALS
#include "paths.h"

using Algorithm = void (*)(const Row&);

#define HARNESS_ALGORITHMS(of) {of::three_pass_recompute, of::three_pass_reload, of::two_pass, of::online}

const Algorithm kAlgorithms[][4] = {
    HARNESS_ALGORITHMS(portable),
#if defined(__x86_64__)
    HARNESS_ALGORITHMS(avx2),
    HARNESS_ALGORITHMS(avx512),
#endif
};

}  // namespace

// Write the softmax of each of the ``rows`` rows of x to out, which does not overlap x. ``path`` is as in
// harness_supported. ``algorithm`` is three passes that recompute exponentials (0), three passes that store
// exponentials (1), two passes (2) or two passes with an online maximum (3). The threads share the rows, or the parts of
// each row where there are few; either way they compute the same bits as one thread.
extern "C" void harness_softmax(int path, int threads, int algorithm, const float* x, int64_t rows, int64_t columns,
                                float* out) {
    if (columns == 0) return;
    const Algorithm compute = kAlgorithms[path][algorithm];
    const bool whole_rows = rows >= 4 * threads;
    const auto take = [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
            compute({x + row * columns, out + row * columns, columns, whole_rows ? 1 : threads});
    };
    if (whole_rows)
        threads::share(rows, (kShare + columns - 1) / columns, threads, take);
    else
        take(0, rows);
}
