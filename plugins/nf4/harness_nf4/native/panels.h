// Products of many inputs in bfloat16: 32 rows and 256 columns of the weight become a tile of bfloat16, scales included,
// which stays in the first cache while all inputs are multiplied with it by dot products of two. A panel of inputs, their values of these
// columns, stays in the second cache for several tiles, whose sums stay beside it. tiles.h includes this.

constexpr int kTileRows = 2 * kLanes;
constexpr int kTileColumns = 256;
constexpr int kTilePieces = kTileColumns / kBlock;
constexpr int kGroup = 256;             // inputs whose sums are kept at a time
constexpr int64_t kSums = 1 << 16;      // sums kept at a time: 256 KiB, a quarter of the second cache
constexpr int64_t kInputs = 1 << 18;    // values of inputs that stay in the second cache without panels
constexpr float kLargest = 1e38f;       // a larger scale could be rounded to infinity

// A tile: for each pair of columns the two weights of each of 32 rows.
struct Tile {
    alignas(64) uint16_t weights[kTileColumns / 2][2 * kTileRows];
};

// The inputs in panels of kTileColumns columns. In a panel, parts of up to kPart inputs follow one another: for each pair
// of columns one word for each input of the part.
struct Panels {
    std::unique_ptr<uint32_t[]> words;
    int64_t inputs, columns, parts;

    Panels(int64_t inputs, int64_t columns)
        : words(new uint32_t[static_cast<size_t>(inputs * columns / 2)]), inputs(inputs), columns(columns),
          parts((inputs + kPart - 1) / kPart) {}
    int64_t first(int64_t part) const { return inputs * part / parts; }  // the first input of a part
    int count(int64_t part) const { return static_cast<int>(first(part + 1) - first(part)); }
    int64_t length(int64_t from) const { return std::min<int64_t>(kTileColumns, columns - from); }
    uint32_t* of(int64_t part, int64_t from) const {
        return words.get() + (inputs * from + first(part) * length(from)) / 2;
    }
    void pack(const uint16_t* x, int64_t from) const {
        for (int64_t part = 0; part < parts; ++part) {
            const int of_part = count(part);
            const __mmask16 mask = static_cast<__mmask16>((1u << of_part) - 1);
            uint32_t* to = of(part, from);
            for (int64_t at = from; at < from + length(from); at += 2 * kLanes) {
                __m512i v[16];
                for (int i = 0; i < kLanes; ++i) v[i] = _mm512_setzero_si512();
                for (int i = 0; i < of_part; ++i) v[i] = _mm512_loadu_si512(x + (first(part) + i) * columns + at);
                transpose(v);
                for (int i = 0; i < kLanes; ++i, to += of_part) _mm512_mask_storeu_epi32(to, mask, v[i]);
            }
        }
    }
};

// A weight and how its codes lie.
struct Source {
    const Weights& w;
    bool interleaved;

    // Return whether the rows from ``row`` on, a multiple of 16, are interleaved.
    bool together(int64_t row) const { return interleaved && row + kInterleaved <= w.rows; }

    // Write the scales of 16 rows and ``pieces`` of 64 columns; return whether each is 0 or of a size that bfloat16 holds.
    bool scales(int64_t row, int64_t from, int pieces, float to[kTilePieces][kLanes]) const {
        const int64_t blocks = w.columns / kBlock, first = from / kBlock;
        if (together(row) && w.absmax && w.block == kBlock) {
            std::memcpy(to, w.absmax + row * blocks + first * kLanes, sizeof(float) * kLanes * static_cast<size_t>(pieces));
        } else {
            for (int lane = 0; lane < kLanes; ++lane) {
                float of_row[kTilePieces];
                w.scales(std::min(row + lane, w.rows - 1) * blocks + first, pieces, of_row);
                for (int piece = 0; piece < pieces; ++piece) to[piece][lane] = of_row[piece];
            }
        }
        int sound = 1;
        for (int piece = 0; piece < pieces; ++piece)
            for (int lane = 0; lane < kLanes; ++lane) {
                const float size = std::fabs(to[piece][lane]);
                sound &= ((size >= kSmallest) | (size == 0)) & (size <= kLargest);
            }
        return sound;
    }

    // Load the codes of 16 rows and of ``words`` words of eight columns, 16 or 8, a row a lane.
    void codes(int64_t row, int64_t from, int words, __m512i v[16]) const {
        const int64_t stride = w.columns / 2;
        if (together(row)) {
            const uint8_t* at = w.codes + row * stride + from * (kLanes / 2);
            for (int i = 0; i < words; ++i) v[i] = _mm512_loadu_si512(at + 64 * i);
            return;
        }
        const __mmask16 mask = words == 8 ? 0x00ff : 0xffff;
        for (int i = 0; i < kLanes; ++i)
            v[i] = _mm512_maskz_loadu_epi32(mask, w.codes + std::min(row + i, w.rows - 1) * stride + from / 2);
        transpose(v);
    }

    // Load the codes of 16 rows and of ``words`` words of eight columns, 16 or 8, a row a vector.
    void rows(int64_t row, int64_t from, int words, __m512i v[16]) const {
        const int64_t stride = w.columns / 2;
        if (together(row)) {
            const uint8_t* at = w.codes + row * stride + from * (kLanes / 2);
            for (int i = 0; i < 16; ++i) v[i] = i < words ? _mm512_loadu_si512(at + 64 * i) : _mm512_setzero_si512();
            transpose(v);
            return;
        }
        const __mmask16 mask = words == 8 ? 0x00ff : 0xffff;
        for (int i = 0; i < kLanes; ++i)
            v[i] = _mm512_maskz_loadu_epi32(mask, w.codes + std::min(row + i, w.rows - 1) * stride + from / 2);
    }

    // Prefetch the codes of 16 rows and kTileColumns columns. Compilers drop a call of a function that only prefetches.
    __attribute__((always_inline)) inline void prefetch(int64_t row, int64_t from) const {
        const int64_t stride = w.columns / 2;
        const bool run = together(row);
        const uint8_t* at = w.codes + row * stride + (run ? from * (kLanes / 2) : from / 2);
        for (int i = 0; i < kLanes && row + i < w.rows; ++i)
            for (int line = 0; line < kTileColumns / 2; line += 64)
                __builtin_prefetch(at + i * (run ? kTileColumns / 2 : stride) + line, 0, 2);
    }
};

// Look up eight columns of 16 rows, whose codes are in a word for each row, as four pairs of columns. ``scales`` are those
// of the first eight rows, each twice, and those of the others; ``rows`` says how they lie.
static inline void look_up_columns(__m512i codes, __m512 levels, const __m512i rows[2], const __m512 scales[2],
                                   uint16_t (*to)[2 * kTileRows]) {
    const __m512i shifts = _mm512_set1_epi64(4);  // the first of two codes is in the high half of a byte
    __m512 weights[4][2];
    for (int half = 0; half < 2; ++half) {
        const __m512i each = _mm512_srlv_epi32(_mm512_permutexvar_epi32(rows[half], codes), shifts);
        weights[0][half] = _mm512_mul_ps(_mm512_permutexvar_ps(each, levels), scales[half]);
        for (int pair = 1; pair < 4; ++pair)
            weights[pair][half] =
                _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srli_epi32(each, 8 * pair), levels), scales[half]);
    }
    for (int pair = 0; pair < 4; ++pair) {
        const __m512bh both = _mm512_cvtne2ps_pbh(weights[pair][1], weights[pair][0]);
        std::memcpy(to[pair], &both, sizeof both);
    }
}

// Look up ``length`` columns from ``from`` on of 16 rows to lanes ``lane`` on of a tile. Return false where a scale is
// neither 0 nor of a size that bfloat16 holds.
static bool look_up_rows(const Source& source, int64_t row, int64_t from, int64_t length, int lane, Tile& tile) {
    const __m512 levels = _mm512_loadu_ps(source.w.levels);
    const __m512i rows[2] = {_mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7),
                             _mm512_setr_epi32(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15)};
    float of_rows[kTilePieces][kLanes];
    if (!source.scales(row, from, static_cast<int>(length / kBlock), of_rows)) return false;
    for (int64_t at = 0; at < length; at += 2 * kBlock) {
        __m512i v[16];
        const int words = static_cast<int>(std::min<int64_t>(2 * kWords, (length - at) / kColumnsOfWord));
        source.codes(row, from + at, words, v);
        for (int word = 0; word < words; word += kWords) {
            const __m512 of_piece = _mm512_loadu_ps(of_rows[at / kBlock + word / kWords]);
            const __m512 scales[2] = {_mm512_permutexvar_ps(rows[0], of_piece), _mm512_permutexvar_ps(rows[1], of_piece)};
            for (int i = word; i < word + kWords; ++i) {
                auto* to = reinterpret_cast<uint16_t(*)[2 * kTileRows]>(tile.weights[at / 2 + 4 * i] + 2 * lane);
                look_up_columns(v[i], levels, rows, scales, to);
            }
        }
    }
    return true;
}

// Multiply ``Inputs`` inputs by ``pairs`` of columns of a tile, and add the products to ``sums`` (inputs, 32). Loops over
// sums are unrolled before registers are assigned: else compilers keep the sums in memory, too.
template <int Inputs> HARNESS_TARGET
static void multiply_tile(const Tile& tile, int64_t pairs, const uint32_t* x, float* sums) {
    __m512 total[2 * Inputs];
#pragma GCC unroll 16
    for (int i = 0; i < 2 * Inputs; ++i) {
        total[i] = _mm512_loadu_ps(sums + i * kLanes);
        __builtin_prefetch(sums + (2 * Inputs + i) * kLanes);  // the sums of the next part
    }
    for (int64_t pair = 0; pair < pairs; ++pair, x += Inputs) {
        const __m512bh low = as_halves(_mm512_load_si512(tile.weights[pair]));
        const __m512bh high = as_halves(_mm512_load_si512(tile.weights[pair] + kTileRows));
#pragma GCC unroll 8
        for (int input = 0; input < Inputs; ++input) {
            const __m512bh both = both_of(x + input);
            total[2 * input] = _mm512_dpbf16_ps(total[2 * input], low, both);
            total[2 * input + 1] = _mm512_dpbf16_ps(total[2 * input + 1], high, both);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 2 * Inputs; ++i) _mm512_storeu_ps(sums + i * kLanes, total[i]);
}

using TileProduct = void (*)(const Tile&, int64_t, const uint32_t*, float*);

static TileProduct tile_product(int inputs) {
    static const TileProduct products[kPart] = {
        multiply_tile<1>, multiply_tile<2>, multiply_tile<3>, multiply_tile<4>,
        multiply_tile<5>, multiply_tile<6>, multiply_tile<7>, multiply_tile<8>,
    };
    return products[inputs - 1];
}

// Write the sums of ``count`` inputs and ``lanes`` rows of a tile, in bfloat16.
static void write_tile(const float* sums, int64_t count, int64_t lanes, int64_t rows, uint16_t* out) {
    for (int64_t input = 0; input < count; ++input, sums += kTileRows, out += rows) {
        const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(sums + kLanes), _mm512_loadu_ps(sums));
        if (lanes == kTileRows)
            std::memcpy(out, &both, sizeof both);
        else
            std::memcpy(out, &both, static_cast<size_t>(lanes) * sizeof *out);
    }
}

// Multiply inputs by the rows [begin, end), of which ``begin`` is a multiple of kTileRows, to out (inputs, rows).
// Return false, with ``out`` unfinished, where a scale is neither 0 nor of a size that bfloat16 holds.
static bool multiply_panels(const Source& source, const Panels& x, int64_t begin, int64_t end, uint16_t* out) {
    const Weights& w = source.w;
    const int64_t most = std::min<int64_t>(kGroup, x.inputs), step = kGroup / kPart;
    const int64_t kept = x.inputs * x.columns <= kInputs ? kTileRows : kSums / most / kTileRows * kTileRows;
    std::unique_ptr<float[]> sums(new float[static_cast<size_t>(kept * most)]);
    Tile tile{};
    for (int64_t group = 0; group < x.parts; group += step) {
        const int64_t stop = std::min(x.parts, group + step), first = x.first(group), count = x.first(stop) - first;
        for (int64_t block = begin; block < end; block += kept) {
            const int64_t last = std::min(end, block + kept);
            std::fill_n(sums.get(), (last - block + kTileRows - 1) / kTileRows * kTileRows * count, 0.0f);
            for (int64_t from = 0; from < w.columns; from += kTileColumns) {
                const int64_t length = x.length(from);
                for (int64_t row = block; row < last; row += kTileRows) {
                    for (int lane = 0; lane < kTileRows && row + lane < w.rows; lane += kLanes) {
                        if (!look_up_rows(source, row + lane, from, length, lane, tile)) return false;
                        const bool next = row + kTileRows < last, ahead = next || from + length < w.columns;
                        if (ahead) source.prefetch((next ? row + kTileRows : block) + lane, next ? from : from + length);
                        else if (last < end) source.prefetch(last + lane, 0);
                    }
                    float* of_tile = sums.get() + (row - block) * count;
                    for (int64_t part = group; part < stop; ++part)
                        tile_product(x.count(part))(tile, length / 2, x.of(part, from),
                                                    of_tile + (x.first(part) - first) * kTileRows);
                }
            }
            for (int64_t row = block; row < last; row += kTileRows)
                write_tile(sums.get() + (row - block) * count, count, std::min<int64_t>(kTileRows, end - row), w.rows,
                           out + first * w.rows + row);
        }
    }
    return true;
}

#if defined(HARNESS_AMX)
#include "amx.h"
#endif
