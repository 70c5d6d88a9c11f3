// The vector operations of kernels.h and bytes.h in plain C++: their documentation, and the path of processors without AVX2.
//
// A vector has 32 bytes, in two groups of 16 within which shuffles and unpacking work, as in AVX2; or 8 32-bit words.

struct Lanes {
    static constexpr int width = 32;  // bytes in a vector
    static constexpr int words = 8;   // floats or 32-bit integers in a vector

    struct Bytes { uint8_t at[32]; };
    struct Ints { int32_t at[8]; };
    struct Floats { float at[8]; };

    static Bytes load(const void* from) {
        Bytes v;
        std::memcpy(v.at, from, sizeof v.at);
        return v;
    }
    // Return the vector of the codes of 64 weights: 32 bytes, and zeros where a vector has more.
    static Bytes load_block(const void* from) { return load(from); }
    static void store(void* to, Bytes v) { std::memcpy(to, v.at, sizeof v.at); }
    // Return a vector with the same 16 bytes in every group.
    static Bytes table(const uint8_t* from) {
        Bytes v;
        for (int i = 0; i < 32; ++i) v.at[i] = from[i % 16];
        return v;
    }
    static Bytes low_nibbles(Bytes v) {
        for (uint8_t& byte : v.at) byte &= 15;
        return v;
    }
    static Bytes high_nibbles(Bytes v) {
        for (uint8_t& byte : v.at) byte >>= 4;
        return v;
    }
    // Return table[index] for indices below 16.
    static Bytes shuffle(Bytes table, Bytes index) {
        Bytes v;
        for (int i = 0; i < 32; ++i) v.at[i] = table.at[i / 16 * 16 + (index.at[i] & 15)];
        return v;
    }
    // Interleave the bytes of a and b, from the first (low) or the second (high) half of every group.
    static Bytes unpack_low(Bytes a, Bytes b) { return unpacked(a, b, 0); }
    static Bytes unpack_high(Bytes a, Bytes b) { return unpacked(a, b, 8); }
    // Multiply 16-bit integers, and add the products in neighbouring pairs.
    static Ints multiply_add(Bytes a, Bytes b) {
        int16_t x[16], y[16];
        std::memcpy(x, a.at, sizeof x);
        std::memcpy(y, b.at, sizeof y);
        Ints v;
        for (int i = 0; i < 8; ++i) v.at[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
        return v;
    }
    // Add such sums to others.
    static Ints multiply_add(Bytes a, Bytes b, Ints to) { return add(to, multiply_add(a, b)); }
    static Ints add(Ints a, Ints b) {
        for (int i = 0; i < 8; ++i) a.at[i] += b.at[i];
        return a;
    }
    static Floats to_floats(Ints v) {
        Floats f;
        for (int i = 0; i < 8; ++i) f.at[i] = static_cast<float>(v.at[i]);
        return f;
    }
    // Return a vector of scales, read from one scale for every 32 bytes.
    static Floats scales(const float* from) { return all(from[0]); }
    // Return total + v * scales, with one scale for every 32 bytes of codes.
    static Floats add_scaled(Ints v, const float* from, Floats total) { return fused(to_floats(v), scales(from), total); }
    static Floats all(float value) {
        Floats v;
        for (float& x : v.at) x = value;
        return v;
    }
    static Floats load_floats(const float* from) {
        Floats v;
        std::memcpy(v.at, from, sizeof v.at);
        return v;
    }
    // Return the next ``words`` signed bytes as floats.
    static Floats from_bytes(const int8_t* from) {
        Floats v;
        for (int i = 0; i < 8; ++i) v.at[i] = static_cast<float>(from[i]);
        return v;
    }
    static void store_floats(float* to, Floats v) { std::memcpy(to, v.at, sizeof v.at); }
    static Floats multiply(Floats a, Floats b) {
        for (int i = 0; i < 8; ++i) a.at[i] *= b.at[i];
        return a;
    }
    static Floats divide(Floats a, Floats b) {
        for (int i = 0; i < 8; ++i) a.at[i] /= b.at[i];
        return a;
    }
    static Floats fused(Floats a, Floats b, Floats c) {
        for (int i = 0; i < 8; ++i) c.at[i] += a.at[i] * b.at[i];
        return c;
    }
    static float sum(Floats v) {
        return ((v.at[0] + v.at[4]) + (v.at[2] + v.at[6])) + ((v.at[1] + v.at[5]) + (v.at[3] + v.at[7]));
    }
    // Return the bits of the larger absolute values. A NaN is kept, because the bits of a NaN exceed those of infinity.
    static Ints larger(Ints sizes, Floats v) {
        for (int i = 0; i < 8; ++i) {
            int32_t bits;
            std::memcpy(&bits, &v.at[i], sizeof bits);
            sizes.at[i] = std::max(sizes.at[i], bits & 0x7fffffff);
        }
        return sizes;
    }
    static Ints zero() { return Ints{}; }
    static int32_t largest(Ints v) { return *std::max_element(v.at, v.at + 8); }
    // Return the next codes, one in each word; the first code of a byte is in the high half. Bits above the lowest
    // four are arbitrary.
    static Ints codes(const uint8_t* from) {
        Ints v;
        for (int i = 0; i < 8; ++i) v.at[i] = i % 2 ? from[i / 2] : from[i / 2] >> 4;
        return v;
    }
    struct Table { float at[16]; };
    static Table words_table(const float* from) {
        Table t;
        std::memcpy(t.at, from, sizeof t.at);
        return t;
    }
    // Return table[index]; only the lowest four bits of an index are used.
    static Floats look_up(const Table& table, Ints index) {
        Floats v;
        for (int i = 0; i < 8; ++i) v.at[i] = table.at[index.at[i] & 15];
        return v;
    }
    // Return the codes of levels from the positions of the levels in ascending order.
    static Ints renamed(const Table& names, Ints index) {
        const Floats found = look_up(names, index);
        Ints v;
        std::memcpy(v.at, found.at, sizeof v.at);
        return v;
    }
    // Add ``step`` to the indices where n > bound. ``closest`` keeps the smallest distance to any bound.
    static Ints advance(Ints index, int step, Floats n, Floats bound, Floats& closest) {
        for (int i = 0; i < 8; ++i) {
            const float distance = n.at[i] - bound.at[i];
            if (distance > 0) index.at[i] += step;
            closest.at[i] = std::min(closest.at[i], std::fabs(distance));
        }
        return index;
    }
    static Ints plus(Ints v, int value) {
        for (int32_t& x : v.at) x += value;
        return v;
    }
    static bool any_below(Floats v, float bound) {
        for (float x : v.at)
            if (x < bound) return true;
        return false;
    }
    static void store_ints(int32_t* to, Ints v) { std::memcpy(to, v.at, sizeof v.at); }
    // Write two codes into each byte, the first in the high half.
    static void pack(uint8_t* to, Ints v) {
        for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(v.at[2 * i] << 4 | v.at[2 * i + 1]);
    }

  private:
    static Bytes unpacked(Bytes a, Bytes b, int half) {
        Bytes v;
        for (int i = 0; i < 16; ++i) {
            const int from = i / 8 * 16 + half + i % 8;
            v.at[2 * i] = a.at[from];
            v.at[2 * i + 1] = b.at[from];
        }
        return v;
    }
};
