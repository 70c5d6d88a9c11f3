// The vector operations that softmax.h needs beyond Lanes, in plain C++: their documentation, and the portable path.

struct Reals : Lanes {
    static constexpr float kNone = -88;  // the least x: e^x then has the exponent -127, and counts as 0

    static Floats add(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) a.at[i] += b.at[i];
        return a;
    }
    static Floats subtract(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) a.at[i] -= b.at[i];
        return a;
    }
    // Return the larger of a and b; b where either is NaN.
    static Floats larger(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) b.at[i] = a.at[i] > b.at[i] ? a.at[i] : b.at[i];
        return b;
    }
    static bool any_above(Floats a, Floats b) {
        for (int i = 0; i < words; ++i)
            if (a.at[i] > b.at[i]) return true;
        return false;
    }
    // Return the whole number n nearest to x / ln 2 in an encoding that has the same order as the numbers. Here the low
    // bits of the encoding are n + 127.
    static Floats exponent(Floats x) {
        for (float& element : x.at) element = element * kLog2E + kForm;
        return x;
    }
    static Floats number(Floats exponent) { return subtract(exponent, all(kForm)); }
    // Return x - n ln 2, without loss of digits where |n| is at most kFar.
    static Floats remainder(Floats x, Floats n) {
        for (int i = 0; i < words; ++i)
            x.at[i] = static_cast<float>(static_cast<double>(x.at[i]) - static_cast<double>(n.at[i]) * 0x1.62e42fefa39efp-1);
        return x;
    }
    // Return m 2^n for n from -127, where 2^n counts as 0, to 0.
    static Floats raised(Floats m, Floats exponent) {
        for (int i = 0; i < words; ++i) {
            uint32_t bits;
            std::memcpy(&bits, &exponent.at[i], sizeof bits);
            bits <<= 23;
            float power;
            std::memcpy(&power, &bits, sizeof power);
            m.at[i] *= power;
        }
        return m;
    }
    // Return m 2^(n - from) for any n up to ``from``.
    static Floats raised(Floats m, Floats exponent, Floats from) {
        return raised(m, larger(subtract(exponent, from), all(kForm - 127)));
    }

  private:
    static constexpr float kForm = 0x1.8000fep23f;
};
