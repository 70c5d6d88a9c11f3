// The AVX-512 intrinsics that lanes_avx512.h uses, in plain C++ after Intel's pseudocode, so that the AVX-512 path can
// be tested on a processor without AVX-512.

struct Wide {
    alignas(64) uint8_t bytes[64];

    template <typename T>
    T* as() { return reinterpret_cast<T*>(bytes); }
    template <typename T>
    const T* as() const { return reinterpret_cast<const T*>(bytes); }
};
struct WideFloats : Wide {};

template <typename T, typename V, typename F>
static V wide_map(int count, const F& of) {
    V v;
    for (int i = 0; i < count; ++i) v.template as<T>()[i] = of(i);
    return v;
}
template <typename F> static Wide wide_words(const F& of) { return wide_map<int32_t, Wide>(16, of); }
template <typename F> static Wide wide_bytes(const F& of) { return wide_map<uint8_t, Wide>(64, of); }
template <typename F> static Wide wide_pairs(const F& of) { return wide_map<uint64_t, Wide>(8, of); }
template <typename F> static WideFloats wide_floats(const F& of) { return wide_map<float, WideFloats>(16, of); }
static inline int32_t word(const Wide& v, int i) { return v.as<int32_t>()[i]; }
static inline float real(const Wide& v, int i) { return v.as<float>()[i]; }

static inline Wide wide_load(const void* from) { Wide v; std::memcpy(v.bytes, from, 64); return v; }
static inline void wide_store(void* to, const Wide& v) { std::memcpy(to, v.bytes, 64); }
static inline Wide wide_broadcast16(__m128i four) {
    Wide v;
    for (int i = 0; i < 4; ++i) std::memcpy(v.bytes + 16 * i, &four, 16);
    return v;
}
static inline Wide wide_and(const Wide& a, const Wide& b) { return wide_words([&](int i) { return word(a, i) & word(b, i); }); }
static inline Wide wide_or(const Wide& a, const Wide& b) { return wide_words([&](int i) { return word(a, i) | word(b, i); }); }
static inline Wide wide_srl16(const Wide& a, int by) {
    return wide_map<uint16_t, Wide>(32, [&](int i) { return static_cast<uint16_t>(a.as<uint16_t>()[i] >> by); });
}
static inline Wide wide_shuffle(const Wide& table, const Wide& index) {
    return wide_bytes([&](int i) {
        const uint8_t at = index.bytes[i];
        return at & 128 ? uint8_t{0} : table.bytes[i / 16 * 16 + (at & 15)];
    });
}
static inline Wide wide_unpack(const Wide& a, const Wide& b, int half) {
    return wide_bytes([&](int i) {
        const int from = i / 16 * 16 + half + i % 16 / 2;
        return i % 2 ? b.bytes[from] : a.bytes[from];
    });
}
static inline Wide wide_madd(const Wide& a, const Wide& b) {
    return wide_words([&](int i) {
        const int16_t *x = a.as<int16_t>() + 2 * i, *y = b.as<int16_t>() + 2 * i;
        return x[0] * y[0] + x[1] * y[1];
    });
}
static inline Wide wide_add(const Wide& a, const Wide& b) { return wide_words([&](int i) { return word(a, i) + word(b, i); }); }
static inline Wide wide_max(const Wide& a, const Wide& b) { return wide_words([&](int i) { return std::max(word(a, i), word(b, i)); }); }
static inline int32_t wide_reduce_max(const Wide& v) { return *std::max_element(v.as<int32_t>(), v.as<int32_t>() + 16); }
static inline float wide_reduce_add(const WideFloats& v) {
    float sum = 0;
    for (int i = 0; i < 16; ++i) sum += real(v, i);
    return sum;
}
static inline WideFloats wide_insert_floats(WideFloats v, __m256 upper, int) { std::memcpy(v.bytes + 32, &upper, 32); return v; }
static inline Wide wide_insert_words(Wide v, __m256i upper, int) { std::memcpy(v.bytes + 32, &upper, 32); return v; }
static inline Wide wide_srlv(const Wide& a, const Wide& by) {
    return wide_words([&](int i) {
        const uint32_t n = static_cast<uint32_t>(word(by, i));
        return n < 32 ? static_cast<int32_t>(static_cast<uint32_t>(word(a, i)) >> n) : 0;
    });
}
static inline WideFloats wide_permute(const Wide& index, const Wide& table) {
    return wide_floats([&](int i) { return real(table, word(index, i) & 15); });
}
static inline unsigned short wide_compare(const Wide& a, const Wide& b, int how) {
    unsigned short mask = 0;
    for (int i = 0; i < 16; ++i) {
        const float x = real(a, i), y = real(b, i);
        const bool holds = how == _CMP_GT_OQ ? x > y : how == _CMP_GE_OQ ? x >= y : how == _CMP_EQ_OQ ? x == y
                           : how == _CMP_LE_OQ ? x <= y : x < y;
        mask = static_cast<unsigned short>(mask | holds << i);
    }
    return mask;
}
static inline Wide wide_mask_add(const Wide& from, unsigned short mask, const Wide& a, const Wide& b) {
    return wide_words([&](int i) { return mask >> i & 1 ? word(a, i) + word(b, i) : word(from, i); });
}
static inline __m128i wide_narrow(const Wide& v) {
    alignas(16) uint8_t bytes[16] = {};
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(v.as<uint64_t>()[i]);
    __m128i out;
    std::memcpy(&out, bytes, 16);
    return out;
}
static inline WideFloats wide_as_floats(const Wide& v) { WideFloats f; std::memcpy(f.bytes, v.bytes, 64); return f; }

static inline Wide wide_masked_load(unsigned short mask, const void* from) {
    return wide_words([&](int i) {
        int32_t element = 0;
        if (mask >> i & 1) std::memcpy(&element, static_cast<const uint8_t*>(from) + 4 * i, 4);
        return element;
    });
}

#undef _mm512_setr_epi32
#define __m512i Wide
#define __m512 WideFloats
#define _mm512_loadu_si512 wide_load
#define _mm512_maskz_loadu_epi32 wide_masked_load
#define _mm512_storeu_si512 wide_store
#define _mm512_broadcast_i32x4 wide_broadcast16
#define _mm512_and_si512 wide_and
#define _mm512_or_si512 wide_or
#define _mm512_set1_epi8(value) wide_bytes([&](int) { return static_cast<uint8_t>(value); })
#define _mm512_set1_epi32(value) wide_words([&](int) { return static_cast<int32_t>(value); })
#define _mm512_setr_epi32(...) wide_words([](int i) { const int32_t given[] = {__VA_ARGS__}; return given[i]; })
#define _mm512_setzero_si512() wide_words([](int) { return 0; })
#define _mm512_srli_epi16 wide_srl16
#define _mm512_slli_epi64(v, by) wide_pairs([&](int i) { return v.as<uint64_t>()[i] << by; })
#define _mm512_srli_epi64(v, by) wide_pairs([&](int i) { return v.as<uint64_t>()[i] >> by; })
#define _mm512_shuffle_epi8 wide_shuffle
#define _mm512_unpacklo_epi8(a, b) wide_unpack(a, b, 0)
#define _mm512_unpackhi_epi8(a, b) wide_unpack(a, b, 8)
#define _mm512_madd_epi16 wide_madd
#define _mm512_add_epi32 wide_add
#define _mm512_max_epi32 wide_max
#define _mm512_reduce_max_epi32 wide_reduce_max
#define _mm512_reduce_add_ps wide_reduce_add
static inline Wide wide_from_bytes(__m128i v) {
    int8_t bytes[16];
    std::memcpy(bytes, &v, sizeof bytes);
    return wide_words([&](int i) { return int32_t{bytes[i]}; });
}
#define _mm512_cvtepi8_epi32 wide_from_bytes
#define _mm512_cvtepi32_ps(v) wide_floats([&](int i) { return static_cast<float>(word(v, i)); })
#define _mm512_castps_si512(v) static_cast<Wide>(v)
#define _mm512_castsi512_ps wide_as_floats
#define _mm512_set1_ps(value) wide_floats([&](int) { return value; })
#define _mm512_setzero_ps() wide_floats([](int) { return 0.0f; })
#define _mm512_loadu_ps(from) wide_as_floats(wide_load(from))
#define _mm512_storeu_ps wide_store
#define _mm512_mul_ps(a, b) wide_floats([&](int i) { return real(a, i) * real(b, i); })
#define _mm512_div_ps(a, b) wide_floats([&](int i) { return real(a, i) / real(b, i); })
#define _mm512_sub_ps(a, b) wide_floats([&](int i) { return real(a, i) - real(b, i); })
#define _mm512_min_ps(a, b) wide_floats([&](int i) { const float x = real(a, i), y = real(b, i); return x < y ? x : y; })
#define _mm512_abs_ps(a) wide_floats([&](int i) { return std::fabs(real(a, i)); })
#define _mm512_fmadd_ps(a, b, c) wide_floats([&](int i) { return std::fma(real(a, i), real(b, i), real(c, i)); })
#define _mm512_insertf32x8 wide_insert_floats
#define _mm512_inserti32x8 wide_insert_words
#define _mm512_srlv_epi32 wide_srlv
#define _mm512_permutexvar_ps wide_permute
#define _mm512_cmp_ps_mask wide_compare
#define _mm512_mask_add_epi32 wide_mask_add
#define _mm512_cvtepi64_epi8 wide_narrow

// The AVX-512 intrinsics that only reals_avx512.h uses.

static inline float wide_scalef(float m, float power) {
    return std::isnan(power) ? power : std::ldexp(m, static_cast<int>(std::floor(std::max(-2000.0f, std::min(2000.0f, power)))));
}

#define _mm512_add_ps(a, b) wide_floats([&](int i) { return real(a, i) + real(b, i); })
#define _mm512_max_ps(a, b) wide_floats([&](int i) { const float x = real(a, i), y = real(b, i); return x > y ? x : y; })
#define _mm512_fnmadd_ps(a, b, c) wide_floats([&](int i) { return std::fma(-real(a, i), real(b, i), real(c, i)); })
#define _mm512_roundscale_ps(a, how) wide_floats([&](int i) { return std::nearbyint(real(a, i)); })
#define _mm512_scalef_ps(a, b) wide_floats([&](int i) { return wide_scalef(real(a, i), real(b, i)); })

// The AVX-512 intrinsics that only the path with VNNI, VBMI and BF16 uses.

static inline Wide wide_dot_words(const Wide& to, const Wide& a, const Wide& b) { return wide_add(to, wide_madd(a, b)); }
static inline Wide wide_unpack_words(const Wide& a, const Wide& b, int half, int size) {  // within groups of 16 bytes
    return wide_bytes([&](int i) {
        const int element = i % 16 / size, from = i / 16 * 16 + (half * 8 / size + element / 2) * size + i % size;
        return element % 2 ? b.bytes[from] : a.bytes[from];
    });
}
static inline Wide wide_shuffle_groups(const Wide& a, const Wide& b, int how) {
    return wide_bytes([&](int i) {
        const int group = i / 16, from = how >> 2 * group & 3;
        return (group < 2 ? a : b).bytes[16 * from + i % 16];
    });
}
static inline Wide wide_permute_halves(const Wide& index, const Wide& table) {
    return wide_map<uint16_t, Wide>(32, [&](int i) { return table.as<uint16_t>()[index.as<uint16_t>()[i] & 31]; });
}
static inline Wide wide_multishift(const Wide& at, const Wide& from) {
    return wide_bytes([&](int i) {
        const uint64_t eight = from.as<uint64_t>()[i / 8];
        const int by = at.bytes[i] & 63;
        return static_cast<uint8_t>(by ? eight >> by | eight << (64 - by) : eight);
    });
}
static inline float wide_half(const Wide& v, int i) {
    const uint32_t bits = static_cast<uint32_t>(v.as<uint16_t>()[i]) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
static inline float wide_flushed(float value) { return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value; }
static inline WideFloats wide_dot_halves(const WideFloats& to, const Wide& a, const Wide& b) {  // first the upper halves
    const auto half = [](const Wide& v, int i) { return wide_flushed(wide_half(v, i)); };
    return wide_floats([&](int i) {
        const float sum = wide_flushed(std::fma(half(a, 2 * i + 1), half(b, 2 * i + 1), wide_flushed(real(to, i))));
        return wide_flushed(std::fma(half(a, 2 * i), half(b, 2 * i), sum));
    });
}

static inline Wide wide_permute_words(const Wide& index, const Wide& from) {
    return wide_words([&](int i) { return word(from, word(index, i) & 15); });
}
static inline void wide_masked_store(void* to, unsigned short mask, const Wide& v) {
    for (int i = 0; i < 16; ++i)
        if (mask >> i & 1) std::memcpy(static_cast<uint8_t*>(to) + 4 * i, v.bytes + 4 * i, 4);
}
static inline Wide wide_round_halves(const WideFloats& high, const WideFloats& low) {
    return wide_map<uint16_t, Wide>(32, [&](int i) {
        const float value = i < 16 ? real(low, i) : real(high, i - 16);
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        if (std::isnan(value)) return static_cast<uint16_t>(bits >> 16 | 0x40);
        if (std::fpclassify(value) == FP_SUBNORMAL) return static_cast<uint16_t>(bits >> 16 & 0x8000);
        return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    });
}

#define __m512bh Wide
#define _mm512_mask_storeu_epi32 wide_masked_store
#define _mm512_permutexvar_epi32 wide_permute_words
#define _mm512_srli_epi32(a, by) wide_words([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(word(a, i)) >> (by)); })
#define _mm512_cvtne2ps_pbh wide_round_halves
#define _mm512_dpwssd_epi32 wide_dot_words
#define _mm512_unpacklo_epi32(a, b) wide_unpack_words(a, b, 0, 4)
#define _mm512_unpackhi_epi32(a, b) wide_unpack_words(a, b, 1, 4)
#define _mm512_unpacklo_epi64(a, b) wide_unpack_words(a, b, 0, 8)
#define _mm512_unpackhi_epi64(a, b) wide_unpack_words(a, b, 1, 8)
#define _mm512_shuffle_i32x4 wide_shuffle_groups
#define _mm512_permutexvar_epi16 wide_permute_halves
#define _mm512_multishift_epi64_epi8 wide_multishift
#define _mm512_add_epi8(a, b) wide_bytes([&](int i) { return static_cast<uint8_t>((a).bytes[i] + (b).bytes[i]); })
#define _mm512_set1_epi64(value) wide_pairs([&](int) { return static_cast<uint64_t>(value); })
#define _mm512_load_si512 wide_load
#define _mm512_store_si512 wide_store
#define _mm512_load_ps _mm512_loadu_ps
#define _mm512_dpbf16_ps wide_dot_halves
#define _mm512_set1_epi16(value) wide_map<uint16_t, Wide>(32, [&](int) { return static_cast<uint16_t>(value); })
#define _mm512_ternarylogic_epi32(a, b, c, table) wide_logic(a, b, c, table)

static inline Wide wide_logic(const Wide& a, const Wide& b, const Wide& c, int table) {
    return wide_bytes([&](int i) {
        int byte = 0;
        for (int bit = 0; bit < 8; ++bit) {
            const int at = (a.bytes[i] >> bit & 1) << 2 | (b.bytes[i] >> bit & 1) << 1 | (c.bytes[i] >> bit & 1);
            byte |= (table >> at & 1) << bit;
        }
        return static_cast<uint8_t>(byte);
    });
}

// Tiles of AMX: eight of 16 rows of 64 bytes, and what is said of their shapes.
struct WideTiles {
    uint8_t shapes[64], rows[8][16][64];
};
static thread_local WideTiles wide_tiles;

static inline void wide_shapes(const void* from) {
    std::memset(&wide_tiles, 0, sizeof wide_tiles);
    std::memcpy(wide_tiles.shapes, from, 64);
}
static inline void wide_require(int tile) {  // a tile without its full shape is an illegal instruction
    uint16_t bytes;
    std::memcpy(&bytes, wide_tiles.shapes + 16 + 2 * tile, 2);
    if (wide_tiles.shapes[0] != 1 || bytes != 64 || wide_tiles.shapes[48 + tile] != 16) __builtin_trap();
}
static inline void wide_load_tile(int tile, const void* from, int64_t stride) {
    wide_require(tile);
    for (int row = 0; row < 16; ++row) std::memcpy(wide_tiles.rows[tile][row], static_cast<const uint8_t*>(from) + row * stride, 64);
}
static inline void wide_store_tile(int tile, void* to, int64_t stride) {
    wide_require(tile);
    for (int row = 0; row < 16; ++row) std::memcpy(static_cast<uint8_t*>(to) + row * stride, wide_tiles.rows[tile][row], 64);
}
static inline void wide_zero_tile(int tile) {
    wide_require(tile);
    std::memset(wide_tiles.rows[tile], 0, sizeof wide_tiles.rows[tile]);
}
static inline void wide_dot_tiles(int to, int a, int b) {  // of the pairs of a row the first have a sum, the second another
    wide_require(to);
    const auto half = [](int tile, int row, int i) {
        Wide v;
        std::memcpy(v.bytes, wide_tiles.rows[tile][row], 64);
        return wide_flushed(wide_half(v, i));
    };
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 16; ++column) {
            float sums[2] = {0, 0}, sum;
            for (int k = 0; k < 32; ++k)
                sums[k % 2] = wide_flushed(std::fma(half(a, row, k), half(b, k / 2, 2 * column + k % 2), sums[k % 2]));
            std::memcpy(&sum, wide_tiles.rows[to][row] + 4 * column, 4);
            sum = wide_flushed(sum + wide_flushed(sums[0] + sums[1]));
            std::memcpy(wide_tiles.rows[to][row] + 4 * column, &sum, 4);
        }
}

#define _tile_storeconfig(to) std::memcpy(to, wide_tiles.shapes, 64)
#define _tile_loadconfig wide_shapes
#define _tile_loadd wide_load_tile
#define _tile_stored wide_store_tile
#define _tile_zero wide_zero_tile
#define _tile_dpbf16ps wide_dot_tiles
