// Products of several inputs in bfloat16: codes are looked up as bfloat16 levels without their scales, a row a lane, and
// multiplied with the inputs by dot products of two (AVX512-BF16). The sum of every 64 columns is multiplied by their scale
// in float32. Up to kFused inputs are multiplied with levels in registers; more with strips of weights (strips.h). Needs
// AVX-512 F, BW, DQ and BF16.

constexpr int kLanes = 16;        // rows in a vector
constexpr int kPart = 8;          // inputs multiplied at a time: with two vectors of rows 16 sums, of which compilers spill none
constexpr int kFused = 16;        // inputs up to which looking codes up again for each part costs less than storing weights
constexpr int kNext = 512;        // bytes to prefetch ahead in each of 16 rows

static inline __m512bh as_halves(__m512i v) {
    __m512bh halves;
    std::memcpy(&halves, &v, sizeof halves);
    return halves;
}

// Return the bits of the bfloat16 nearest to ``value``, which is finite; of two as near the even one.
static inline uint16_t half_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Look up the levels of eight columns, whose codes are in a word for each row, as four pairs: columns k and k + 4. The
// permutation takes the low five bits of 16; the fifth is of another code, and the table holds the levels twice.
static inline void look_up_word(__m512i codes, __m512i table, __m512i levels[4]) {
    levels[0] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), table);
    levels[1] = _mm512_permutexvar_epi16(codes, table);
    levels[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 12), table);
    levels[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), table);
}

// The inputs, packed in parts of up to kPart: for each pair of columns one word for each input of the part.
struct Packed {
    std::unique_ptr<uint32_t[]> words;
    int64_t inputs, columns, parts;

    Packed(int64_t inputs, int64_t columns)
        : words(new uint32_t[static_cast<size_t>(inputs * columns / 2)]), inputs(inputs), columns(columns),
          parts((inputs + kPart - 1) / kPart) {}
    int64_t first(int64_t part) const { return inputs * part / parts; }  // the first input of a part
    int count(int64_t part) const { return static_cast<int>(first(part + 1) - first(part)); }
    uint32_t* of(int64_t part) const { return words.get() + first(part) * columns / 2; }
    void pack(const uint16_t* x, int64_t part) const {
        const int inputs_of_part = count(part);
        for (int input = 0; input < inputs_of_part; ++input) {
            const uint16_t* from = x + (first(part) + input) * columns;
            uint32_t* to = of(part) + input;
            for (int64_t at = 0; at < columns; at += 8)
                for (int k = 0; k < 4; ++k, to += inputs_of_part)
                    *to = from[at + k] | static_cast<uint32_t>(from[at + k + 4]) << 16;
        }
    }
};

static inline __m512bh both_of(const uint32_t* pair) { return as_halves(_mm512_set1_epi32(static_cast<int32_t>(*pair))); }

// Write the sums of ``count`` inputs and the rows [row, end), of which there are ``stride`` or fewer, in bfloat16.
static void write_halves(const float* sums, int count, int stride, int64_t row, int64_t end, int64_t rows, uint16_t* out) {
    const int64_t lanes = std::min<int64_t>(stride, end - row);
    for (int input = 0; input < count; ++input)
        for (int64_t lane = 0; lane < lanes; ++lane) {
            const float sum = sums[input * stride + lane];
            out[input * rows + row + lane] = std::isnan(sum) ? uint16_t{0x7fc0} : half_of(sum);
        }
}

// Multiply ``Inputs`` inputs by 16 rows and 64 columns, whose codes are in eight words for each row, and add the products
// to ``sums`` (inputs, 16).
template <int Inputs> HARNESS_TARGET
static inline void multiply_words(const __m512i* words, __m512i table, const uint32_t* x, const float* scales, float* sums) {
    constexpr int chains = Inputs == 1 ? 4 : Inputs <= 3 ? 2 : 1;  // with few inputs the sums would wait for each other
    __m512 total[chains][Inputs];
    for (auto& chain : total)
        for (auto& of_input : chain) of_input = _mm512_setzero_ps();
    for (int word = 0; word < 8; ++word) {
        __m512i levels[4];
        look_up_word(words[word], table, levels);
        for (int k = 0; k < 4; ++k)
            for (int input = 0; input < Inputs; ++input) {
                __m512& sum = total[k % chains][input];
                sum = _mm512_dpbf16_ps(sum, as_halves(levels[k]), both_of(x + (4 * word + k) * Inputs + input));
            }
    }
    const __m512 scale = _mm512_loadu_ps(scales);
    for (int input = 0; input < Inputs; ++input) {
        __m512 sum = total[0][input];
        for (int chain = 1; chain < chains; ++chain) sum = _mm512_add_ps(sum, total[chain][input]);
        float* to = sums + input * kLanes;
        _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, scale, _mm512_loadu_ps(to)));
    }
}

struct RowBlock {
    const uint8_t* codes[kLanes];
    const float* scales[kLanes];
    int64_t next;  // bytes from the codes of the block to those of the next; 0 where nothing is to be prefetched
};

// Multiply ``Inputs`` inputs by 16 rows, and add the products to ``sums`` (inputs, 16). The codes of 128 columns of a row
// become the words of a vector, and vectors of 16 rows are transposed, so that a row is a lane.
template <int Inputs> HARNESS_TARGET
static void multiply_block(const RowBlock& rows, int64_t columns, __m512i table, const uint32_t* x, float* sums) {
    alignas(64) float scales[16][kLanes];
    __m512i v[16];
    for (int64_t from = 0; from < columns; from += 2 * kBlock) {
        const int64_t piece = from / kBlock % 16;
        if (piece == 0) {
            const int64_t count = std::min<int64_t>(16, (columns - from) / kBlock);
            const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
            for (int i = 0; i < 16; ++i) v[i] = _mm512_maskz_loadu_epi32(mask, rows.scales[i] + from / kBlock);
            transpose(v);
            for (int i = 0; i < 16; ++i) _mm512_store_si512(scales[i], v[i]);
        }
        const bool half = columns - from < 2 * kBlock;
        const __mmask16 mask = half ? 0x00ff : 0xffff;
        const int64_t next = from / 2 + kNext, ahead = next < columns / 2 ? next : next - columns / 2 + rows.next;
        for (int i = 0; i < 16; ++i) {
            v[i] = _mm512_maskz_loadu_epi32(mask, rows.codes[i] + from / 2);
            if (rows.next) __builtin_prefetch(rows.codes[i] + ahead, 0, 2);
        }
        transpose(v);
        multiply_words<Inputs>(v, table, x + from / 2 * Inputs, scales[piece], sums);
        if (!half) multiply_words<Inputs>(v + 8, table, x + (from + kBlock) / 2 * Inputs, scales[piece + 1], sums);
    }
}

using BlockProduct = void (*)(const RowBlock&, int64_t, __m512i, const uint32_t*, float*);

static BlockProduct block_product(int inputs) {
    static const BlockProduct products[kPart] = {
        multiply_block<1>, multiply_block<2>, multiply_block<3>, multiply_block<4>,
        multiply_block<5>, multiply_block<6>, multiply_block<7>, multiply_block<8>,
    };
    return products[inputs - 1];
}

// Multiply packed inputs by the rows [begin, end), with levels in registers, to out (inputs, rows).
static void multiply_fused(const Weights& w, const Packed& x, int64_t begin, int64_t end, uint16_t* out) {
    alignas(64) uint16_t levels[32];
    for (int i = 0; i < 32; ++i) levels[i] = half_of(w.levels[i % 16]);
    const __m512i table = _mm512_load_si512(levels);
    const int64_t blocks = w.columns / kBlock;
    std::vector<float> room(static_cast<size_t>(kLanes * blocks));
    for (int64_t row = begin; row < end; row += kLanes) {
        RowBlock rows;
        for (int lane = 0; lane < kLanes; ++lane) {  // rows from ``end`` on repeat the last one
            const int64_t at = std::min(row + lane, end - 1);
            rows.codes[lane] = w.codes + at * w.columns / 2;
            rows.scales[lane] = w.scales_of(at * blocks, blocks, room.data() + lane * blocks);
        }
        for (int64_t part = 0; part < x.parts; ++part) {
            rows.next = part == 0 && row + 2 * kLanes <= end ? kLanes * w.columns / 2 : 0;
            alignas(64) float sums[kPart][kLanes] = {};
            block_product(x.count(part))(rows, w.columns, table, x.of(part), sums[0]);
            write_halves(sums[0], x.count(part), kLanes, row, end, w.rows, out + x.first(part) * w.rows);
        }
    }
}

#include "strips.h"
