// What measurements say of processors, which no list of their instructions does.

#pragma once

inline bool intel() {
#if defined(__x86_64__)
    static const bool intel = __builtin_cpu_is("intel");
    return intel;
#else
    return false;
#endif
}

// Return whether dot products of bfloat16 take longer than those of integers, and many inputs are best multiplied in fixed point:
// on an Intel Xeon twice as long, on an AMD EPYC as long.
inline bool prefers_integers() {
#if defined(HARNESS_EMULATED_AVX512)  // for tests, so that products of many inputs in bfloat16 are chosen on any processor
    return false;
#else
    return intel();
#endif
}

// Return whether instructions that prefetch help the products of few inputs where these read several runs of codes, which
// lie far apart, at once: with them an Intel Xeon takes a sixth to a third less time. An AMD EPYC takes more where codes
// have four bits; with eight it was not tried (docs/families/quantize.md).
inline bool prefetches() {
#if defined(HARNESS_EMULATED_AVX512)  // for tests, so that both ways are tested on any processor
    return true;
#else
    return intel();
#endif
}
