// Softmax of rows of float32 by four algorithms that differ in how often they pass over a row, and in nothing else:
// one exponential, one way to sum. A C interface for ctypes; the path (AVX-512, AVX2, portable) is the caller's choice.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(HARNESS_EMULATED_AVX512)  // a header that says in plain C++ what the intrinsics do: for tests
#include HARNESS_EMULATED_AVX512
#endif

namespace {

// exp(t) = 1 + t (kExp[0] + t (kExp[1] + ...)) within 1e-7 of itself, for t within 0.35 of 0: a fit of least relative error.
constexpr float kExp[] = {0x1.fffff6p-1f, 0x1.fffdb0p-2f, 0x1.555a7ap-3f, 0x1.574374p-5f, 0x1.0fac72p-7f};
constexpr float kLog2E = 0x1.715476p+0f;
constexpr float kLn2 = 0x1.62e43p-1f, kLn2Rest = -0x1.05c610p-29f;  // ln 2 to 49 bits
constexpr float kFar = 65536;        // an exponent past it loses digits when it is taken from its number
constexpr float kLeast = -131072;    // numbers below count as this one: e to it is 0 beside all that is not far
constexpr float kLowest = -0x1.fffffep127f;
constexpr int kVectors = 4;          // taken together
constexpr int kAhead = 512;          // numbers from what is computed to what is fetched
constexpr int64_t kBlock = 4096;     // numbers that are summed in float32 before float64 takes over

struct Row {
    const float* x;
    float* y;
    int64_t columns;
};

// m * 2^n, however large or small that is.
struct Scaled {
    double m, n;
};

Scaled plus(Scaled a, Scaled b) {
    if (a.n < b.n) std::swap(a, b);
    return {a.m + std::ldexp(b.m, static_cast<int>(std::max(b.n - a.n, -2000.0))), a.n};
}

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

// Softmax of each of ``rows`` rows of x to those of out; the two do not overlap. Paths are those of harness_supported;
// algorithms: three passes that recompute exponentials (0) or store them (1), two passes (2), two online (3).
extern "C" void harness_softmax(int path, int algorithm, const float* x, int64_t rows, int64_t columns, float* out) {
    if (columns == 0) return;
    for (int64_t row = 0; row < rows; ++row)
        kAlgorithms[path][algorithm]({x + row * columns, out + row * columns, columns});
}
