// The vector operations of softmax.h in AVX-512 F; reals_portable.h documents them. Here an exponent's encoding is the
// whole number itself.

struct Reals : Lanes {
    static constexpr float kNone = kLeast;

    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    static bool any_above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
    static Floats exponent(Floats x) { return _mm512_roundscale_ps(_mm512_mul_ps(x, all(kLog2E)), 0); }
    static Floats number(Floats exponent) { return exponent; }
    static Floats remainder(Floats x, Floats n) {
        return _mm512_fnmadd_ps(n, all(kLn2Rest), _mm512_fnmadd_ps(n, all(kLn2), x));
    }
    static Floats raised(Floats m, Floats exponent) { return _mm512_scalef_ps(m, exponent); }
    static Floats raised(Floats m, Floats exponent, Floats from) {
        return _mm512_scalef_ps(m, _mm512_sub_ps(exponent, from));
    }
};
