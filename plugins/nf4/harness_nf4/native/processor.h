// What measurements say of processors, which no list of their instructions does.

#pragma once

// Return whether instructions that prefetch help the products of few inputs where these read several runs of codes, which
// lie far apart, at once: with them an Intel Xeon takes a sixth to a third less time. An AMD EPYC takes more where codes
// have four bits; with eight it was not tried (docs/families/quantize.md).
inline bool prefetches() {
#if defined(HARNESS_EMULATED_AVX512)  // for tests, so that both ways are tested on any processor
    return true;
#elif defined(__x86_64__)
    static const bool intel = __builtin_cpu_is("intel");
    return intel;
#else
    return false;
#endif
}
