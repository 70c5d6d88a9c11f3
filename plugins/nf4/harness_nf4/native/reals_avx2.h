// The vector operations of softmax.h in AVX2 and FMA; reals_portable.h documents them.

struct Reals : Lanes {
    static constexpr float kNone = -88;

    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
    static bool any_above(Floats a, Floats b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0; }
    static Floats exponent(Floats x) { return _mm256_fmadd_ps(x, all(kLog2E), all(kForm)); }
    static Floats number(Floats exponent) { return _mm256_sub_ps(exponent, all(kForm)); }
    static Floats remainder(Floats x, Floats n) {
        return _mm256_fnmadd_ps(n, all(kLn2Rest), _mm256_fnmadd_ps(n, all(kLn2), x));
    }
    static Floats raised(Floats m, Floats exponent) {
        return _mm256_mul_ps(m, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(exponent), 23)));
    }
    static Floats raised(Floats m, Floats exponent, Floats from) {
        return raised(m, _mm256_max_ps(_mm256_sub_ps(exponent, from), all(kForm - 127)));
    }

  private:
    static constexpr float kForm = 0x1.8000fep23f;
};
