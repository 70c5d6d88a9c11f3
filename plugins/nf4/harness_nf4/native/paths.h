// Compiles the file HARNESS_KERNELS, which uses Lanes (and Reals, where HARNESS_REALS is defined), once for each
// instruction set, in the namespaces portable, avx2 and avx512; and in the namespace avx512_bf16 with HARNESS_TILES, a
// file that needs these instructions, where that is defined. HARNESS_INTERLEAVED, where defined, is a file that needs
// AVX-512. Include this file where these namespaces are to be.

namespace portable {
#define HARNESS_TARGET
#include "lanes_portable.h"
#include "decode_bytes.h"
#if defined(HARNESS_REALS)
#include "reals_portable.h"
#endif
#include HARNESS_KERNELS
#undef HARNESS_TARGET
}  // namespace portable

#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define HARNESS_TARGET __attribute__((target("avx2,fma")))
#include "lanes_avx2.h"
#include "decode_bytes.h"
#if defined(HARNESS_REALS)
#include "reals_avx2.h"
#endif
#include HARNESS_KERNELS
#undef HARNESS_TARGET
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(HARNESS_EMULATED_AVX512)
#define HARNESS_AVX512_TARGET
#else
#define HARNESS_AVX512_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx2,fma")))
#if defined(__clang__)
#pragma clang attribute push(HARNESS_AVX512_TARGET, apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx2,fma")
#endif
#endif
namespace avx512 {
#define HARNESS_TARGET HARNESS_AVX512_TARGET
#include "lanes_avx512.h"
#include "decode_words.h"
#if defined(HARNESS_REALS)
#include "reals_avx512.h"
#endif
#include HARNESS_KERNELS
#if defined(HARNESS_INTERLEAVED)
#include HARNESS_INTERLEAVED
#endif
#undef HARNESS_TARGET
}  // namespace avx512
#if !defined(HARNESS_EMULATED_AVX512)
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if defined(HARNESS_TILES)
#if defined(HARNESS_EMULATED_AVX512)
#define HARNESS_BF16_TARGET
#else
#define HARNESS_BF16_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vbmi,avx512vnni,avx512bf16,avx2,fma")))
#if defined(__clang__)
#pragma clang attribute push(HARNESS_BF16_TARGET, apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vbmi,avx512vnni,avx512bf16,avx2,fma")
#endif
#endif
namespace avx512_bf16 {
#define HARNESS_TARGET HARNESS_BF16_TARGET
#define HARNESS_VNNI
#include "lanes_avx512.h"
#include "decode_words.h"
#include HARNESS_KERNELS
#if defined(HARNESS_INTERLEAVED)
#include HARNESS_INTERLEAVED
#endif
#include HARNESS_TILES
#undef HARNESS_VNNI
#undef HARNESS_TARGET
}  // namespace avx512_bf16
#if !defined(HARNESS_EMULATED_AVX512)
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif  // HARNESS_TILES

#endif  // x86-64
