// The vector operations of kernels.h in AVX-512 (F, BW, DQ; and VNNI, where HARNESS_VNNI is defined); lanes_portable.h
// documents them.

struct Lanes {
    static constexpr int width = 64;
    static constexpr int words = 16;

    using Bytes = __m512i;
    using Ints = __m512i;
    using Floats = __m512;

    static Bytes load(const void* from) { return _mm512_loadu_si512(from); }
    static Bytes load_block(const void* from) { return _mm512_maskz_loadu_epi32(0x00ff, from); }
    static void store(void* to, Bytes v) { _mm512_storeu_si512(to, v); }
    static Bytes table(const uint8_t* from) {
        return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }
    static Bytes low_nibbles(Bytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
    static Bytes high_nibbles(Bytes v) { return low_nibbles(_mm512_srli_epi16(v, 4)); }
    static Bytes shuffle(Bytes table, Bytes index) { return _mm512_shuffle_epi8(table, index); }
    static Bytes unpack_low(Bytes a, Bytes b) { return _mm512_unpacklo_epi8(a, b); }
    static Bytes unpack_high(Bytes a, Bytes b) { return _mm512_unpackhi_epi8(a, b); }
    static Ints multiply_add(Bytes a, Bytes b) { return _mm512_madd_epi16(a, b); }
    static Ints multiply_add(Bytes a, Bytes b, Ints to) {
#if defined(HARNESS_VNNI)
        return _mm512_dpwssd_epi32(to, a, b);
#else
        return _mm512_add_epi32(to, _mm512_madd_epi16(a, b));
#endif
    }
    static Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
    static Floats to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
    static Floats scales(const float* from) {
        return _mm512_insertf32x8(_mm512_set1_ps(from[0]), _mm256_set1_ps(from[1]), 1);
    }
    static Floats add_scaled(Ints v, const float* from, Floats total) {
        return fused(to_floats(v), scales(from), total);
    }
    static Floats all(float value) { return _mm512_set1_ps(value); }
    static Floats load_floats(const float* from) { return _mm512_loadu_ps(from); }
    static Floats from_bytes(const int8_t* from) {
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
    }
    static void store_floats(float* to, Floats v) { _mm512_storeu_ps(to, v); }
    static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
    static Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static float sum(Floats v) { return _mm512_reduce_add_ps(v); }
    static Ints larger(Ints sizes, Floats v) {
        return _mm512_max_epi32(sizes, _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7fffffff)));
    }
    static Ints zero() { return _mm512_setzero_si512(); }
    static int32_t largest(Ints v) { return _mm512_reduce_max_epi32(v); }
    static Ints codes(const uint8_t* from) {
        int32_t four[2];
        std::memcpy(four, from, sizeof four);
        const __m512i bytes = _mm512_inserti32x8(_mm512_set1_epi32(four[0]), _mm256_set1_epi32(four[1]), 1);
        return _mm512_srlv_epi32(
            bytes, _mm512_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24, 4, 0, 12, 8, 20, 16, 28, 24));
    }
    struct Table { __m512 all; };
    static Table words_table(const float* from) { return {_mm512_loadu_ps(from)}; }
    static Floats look_up(const Table& table, Ints index) { return _mm512_permutexvar_ps(index, table.all); }
    static Ints renamed(const Table& names, Ints index) { return _mm512_castps_si512(look_up(names, index)); }
    static Ints advance(Ints index, int step, Floats n, Floats bound, Floats& closest) {
        const __m512 distance = _mm512_sub_ps(n, bound);
        closest = _mm512_min_ps(closest, _mm512_abs_ps(distance));
        const __mmask16 above = _mm512_cmp_ps_mask(distance, _mm512_setzero_ps(), _CMP_GT_OQ);
        return _mm512_mask_add_epi32(index, above, index, _mm512_set1_epi32(step));
    }
    static Ints plus(Ints v, int value) { return _mm512_add_epi32(v, _mm512_set1_epi32(value)); }
    static bool any_below(Floats v, float bound) {
        return _mm512_cmp_ps_mask(v, _mm512_set1_ps(bound), _CMP_LT_OQ) != 0;
    }
    static void store_ints(int32_t* to, Ints v) { _mm512_storeu_si512(to, v); }
    static void pack(uint8_t* to, Ints v) {
        const __m512i pairs = _mm512_or_si512(_mm512_slli_epi64(v, 4), _mm512_srli_epi64(v, 32));
        const __m128i eight = _mm512_cvtepi64_epi8(pairs);
        std::memcpy(to, &eight, 8);
    }
};
