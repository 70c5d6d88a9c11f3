// What softmax.h says of floats beyond the vocabulary of kernels.h, in plain C++.

struct Reals : Lanes {
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
    // To whole numbers, of those below 2^22 in size; one that is larger stays large.
    static Floats nearest(Floats v) {
        for (float& one : v.at) one = (one + 0x1.8p23f) - 0x1.8p23f;
        return v;
    }
    // x - n ln 2, without loss where n is not far.
    static Floats remainder(Floats x, Floats n) {
        for (int i = 0; i < words; ++i)
            x.at[i] = static_cast<float>(static_cast<double>(x.at[i]) - static_cast<double>(n.at[i]) * 0x1.62e42fefa39efp-1);
        return x;
    }
    // m 2^k for whole k up to 0, and 0 for k below -126.
    static Floats times_power(Floats m, Floats k) {
        for (int i = 0; i < words; ++i) {
            const float exponent = (k.at[i] > -127 ? k.at[i] : -127) + 0x1.8000fep23f;  // its low bits: 127 and k
            uint32_t bits;
            std::memcpy(&bits, &exponent, sizeof bits);
            bits <<= 23;
            float power;
            std::memcpy(&power, &bits, sizeof power);
            m.at[i] *= power;
        }
        return m;
    }
};
