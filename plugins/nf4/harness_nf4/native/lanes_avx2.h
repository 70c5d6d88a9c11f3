// The vector operations of kernels.h in AVX2 and FMA; lanes_portable.h documents them.

struct Lanes {
    static constexpr int width = 32;
    static constexpr int words = 8;

    using Bytes = __m256i;
    using Ints = __m256i;
    using Floats = __m256;

    static Bytes load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
    static Bytes load_block(const void* from) { return load(from); }
    static void store(void* to, Bytes v) { _mm256_storeu_si256(static_cast<__m256i*>(to), v); }
    static Bytes table(const uint8_t* from) {
        return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static Bytes low_nibbles(Bytes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes v) { return low_nibbles(_mm256_srli_epi16(v, 4)); }
    static Bytes shuffle(Bytes table, Bytes index) { return _mm256_shuffle_epi8(table, index); }
    static Bytes unpack_low(Bytes a, Bytes b) { return _mm256_unpacklo_epi8(a, b); }
    static Bytes unpack_high(Bytes a, Bytes b) { return _mm256_unpackhi_epi8(a, b); }
    static Ints multiply_add(Bytes a, Bytes b) { return _mm256_madd_epi16(a, b); }
    static Ints multiply_add(Bytes a, Bytes b, Ints to) { return _mm256_add_epi32(to, multiply_add(a, b)); }
    static Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
    static Floats to_floats(Ints v) { return _mm256_cvtepi32_ps(v); }
    static Floats scales(const float* from) { return _mm256_broadcast_ss(from); }
    static Floats add_scaled(Ints v, const float* from, Floats total) {
        return fused(to_floats(v), scales(from), total);
    }
    static Floats all(float value) { return _mm256_set1_ps(value); }
    static Floats load_floats(const float* from) { return _mm256_loadu_ps(from); }
    static Floats from_bytes(const int8_t* from) {
        int64_t eight;
        std::memcpy(&eight, from, sizeof eight);
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight)));
    }
    static void store_floats(float* to, Floats v) { _mm256_storeu_ps(to, v); }
    static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats divide(Floats a, Floats b) { return _mm256_div_ps(a, b); }
    static Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static float sum(Floats v) {
        __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        half = _mm_add_ps(half, _mm_movehl_ps(half, half));
        return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    }
    static Ints larger(Ints sizes, Floats v) {
        return _mm256_max_epi32(sizes, _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7fffffff)));
    }
    static Ints zero() { return _mm256_setzero_si256(); }
    static int32_t largest(Ints v) {
        __m128i half = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
        return _mm_cvtsi128_si32(_mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
    }
    static Ints codes(const uint8_t* from) {
        int32_t four;
        std::memcpy(&four, from, sizeof four);
        return _mm256_srlv_epi32(_mm256_set1_epi32(four), _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24));
    }
    struct Table { __m256 low, high; };
    static Table words_table(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
    static Floats look_up(const Table& table, Ints index) {
        return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.low, index), _mm256_permutevar8x32_ps(table.high, index),
                                _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
    }
    static Ints renamed(const Table& names, Ints index) { return _mm256_castps_si256(look_up(names, index)); }
    static Ints advance(Ints index, int step, Floats n, Floats bound, Floats& closest) {
        const __m256 distance = _mm256_sub_ps(n, bound);
        closest = _mm256_min_ps(closest, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), distance));
        const __m256 above = _mm256_cmp_ps(distance, _mm256_setzero_ps(), _CMP_GT_OQ);
        return _mm256_add_epi32(index, _mm256_and_si256(_mm256_castps_si256(above), _mm256_set1_epi32(step)));
    }
    static Ints plus(Ints v, int value) { return _mm256_add_epi32(v, _mm256_set1_epi32(value)); }
    static bool any_below(Floats v, float bound) {
        return _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(bound), _CMP_LT_OQ)) != 0;
    }
    static void store_ints(int32_t* to, Ints v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v); }
    static void pack(uint8_t* to, Ints v) {
        // The first code of a pair is in the low 32 bits of 64.
        const __m256i pairs = _mm256_or_si256(_mm256_slli_epi64(v, 4), _mm256_srli_epi64(v, 32));
        const __m256i first = _mm256_setr_epi8(0, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 8, -1, -1,
                                               -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
        const __m256i bytes = _mm256_shuffle_epi8(pairs, first);
        const int32_t four = _mm_cvtsi128_si32(_mm256_castsi256_si128(bytes)) |
                             _mm_cvtsi128_si32(_mm256_extracti128_si256(bytes, 1)) << 16;
        std::memcpy(to, &four, sizeof four);
    }
};
