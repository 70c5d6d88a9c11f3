// What softmax.h says of floats beyond the vocabulary of kernels.h, in plain C++.

struct Reals : Lanes {
    static constexpr float kNone = -88;  // e to it has an exponent of -127, and counts as 0

    static Floats add(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) a.at[i] += b.at[i];
        return a;
    }
    static Floats subtract(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) a.at[i] -= b.at[i];
        return a;
    }
    // The second where either is NaN.
    static Floats larger(Floats a, Floats b) {
        for (int i = 0; i < words; ++i) b.at[i] = a.at[i] > b.at[i] ? a.at[i] : b.at[i];
        return b;
    }
    static bool any_above(Floats a, Floats b) {
        for (int i = 0; i < words; ++i)
            if (a.at[i] > b.at[i]) return true;
        return false;
    }
    // The whole number n next to x / ln 2, in a form of its own, which is in the order of the numbers: here its low
    // bits are n + 127.
    static Floats exponent(Floats x) {
        for (float& one : x.at) one = one * kLog2E + kForm;
        return x;
    }
    static Floats number(Floats exponent) { return subtract(exponent, all(kForm)); }
    // x - n ln 2, without loss where n is not far.
    static Floats remainder(Floats x, Floats n) {
        for (int i = 0; i < words; ++i)
            x.at[i] = static_cast<float>(static_cast<double>(x.at[i]) - static_cast<double>(n.at[i]) * 0x1.62e42fefa39efp-1);
        return x;
    }
    // m 2^n for an exponent from -127, where it counts as 0, to 0.
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
    // m 2^(n - from), for any exponent up to the number ``from``.
    static Floats raised(Floats m, Floats exponent, Floats from) {
        return raised(m, larger(subtract(exponent, from), all(kForm - 127)));
    }

  private:
    static constexpr float kForm = 0x1.8000fep23f;
};
