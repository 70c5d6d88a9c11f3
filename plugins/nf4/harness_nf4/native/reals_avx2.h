// The words of reals_portable.h, which says what they mean, in AVX2 and FMA.

struct Reals : Lanes {
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
    static bool any_above(Floats a, Floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
    static Floats nearest(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Floats remainder(Floats x, Floats n) {
        return _mm256_fnmadd_ps(n, all(kLn2Rest), _mm256_fnmadd_ps(n, all(kLn2), x));
    }
    static Floats times_power(Floats m, Floats k) {
        const __m256 exponent = _mm256_add_ps(_mm256_max_ps(k, all(-127)), all(0x1.8000fep23f));
        return _mm256_mul_ps(m, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(exponent), 23)));
    }
};
