// The words of reals_portable.h, which says what they mean, in AVX-512 F.

struct Reals : Lanes {
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    static bool any_above(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0; }
    static Floats nearest(Floats v) { return _mm512_roundscale_ps(v, 0); }
    static Floats remainder(Floats x, Floats n) {
        return _mm512_fnmadd_ps(n, all(kLn2Rest), _mm512_fnmadd_ps(n, all(kLn2), x));
    }
    static Floats times_power(Floats m, Floats k) { return _mm512_scalef_ps(m, k); }
};
