// Products of many inputs in bfloat16: the codes of a tile of rows and columns are looked up once, as bfloat16 levels
// without their scales, and multiplied with all inputs by dot products of two (AVX512-BF16). The sum of every 64 columns
// is multiplied by their scale in float32. Needs AVX-512 F, BW, DQ, VBMI and BF16.

constexpr int kTileRows = 32;     // two vectors, a row a lane
constexpr int kTileColumns = 512; // looked up at a time: a run of 256 bytes of each row
constexpr int kTilePieces = kTileColumns / kBlock;
constexpr int kHalfColumns = 256; // multiplied at a time: their levels take 16 KiB, half of the first cache
constexpr int kTileInputs = 8;    // with two vectors of rows each: 16 sums, of which compilers spill none
constexpr int kGroup = 256;       // inputs whose sums are kept at a time
constexpr int kPairs = kBlock / 2;

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

// The levels of a tile: for each pair of columns the two levels of each of 32 rows, and a scale for every 64 columns.
struct Tile {
    alignas(64) uint16_t levels[kTileColumns / 2][2 * kTileRows];
    alignas(64) float scales[kTilePieces][kTileRows];
};

// Transpose 16 vectors of 16 words.
static inline void transpose(__m512i v[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; ++k) {
            v[i + 2 * k] = _mm512_unpacklo_epi64(t[i + k], t[i + 2 + k]);
            v[i + 2 * k + 1] = _mm512_unpackhi_epi64(t[i + k], t[i + 2 + k]);
        }
    for (int i = 0; i < 4; ++i)
        for (int k = 0; k < 16; k += 8) {
            t[k + i] = _mm512_shuffle_i32x4(v[k + i], v[k + i + 4], 0x88);
            t[k + i + 4] = _mm512_shuffle_i32x4(v[k + i], v[k + i + 4], 0xdd);
        }
    for (int i = 0; i < 8; ++i) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    }
}

// Look up the levels of 16 rows and 128 columns (64, where ``half``) to lanes ``lane`` on of the tile's pairs from
// ``pair`` on. ``row[i]`` points to the codes of a row; ``next`` bytes further are codes that will be needed soon.
static inline void look_up_rows(const uint8_t* const row[16], bool half, int64_t next, __m512i table, Tile& tile,
                                int pair, int lane) {
    __m512i v[16];
    const __mmask16 mask = half ? 0x00ff : 0xffff;
    for (int i = 0; i < 16; ++i) {
        v[i] = _mm512_maskz_loadu_epi32(mask, row[i]);
        __builtin_prefetch(row[i] + next, 0, 2);
    }
    transpose(v);
    // Of each row's four bytes the high and the low half of byte k, as the low bits of two 16-bit numbers: the other
    // bits choose nothing, since the table holds the levels twice.
    const __m512i first = _mm512_set1_epi64(0x0020002400000004), step = _mm512_set1_epi8(8);
    for (int word = 0; word < (half ? 8 : 16); ++word) {
        __m512i at = first;
        for (int k = 0; k < 4; ++k) {
            _mm512_store_si512(tile.levels[pair + 4 * word + k] + 2 * lane,
                               _mm512_permutexvar_epi16(_mm512_multishift_epi64_epi8(at, v[word]), table));
            at = _mm512_add_epi8(at, step);
        }
    }
}

// Multiply ``Inputs`` inputs by ``pieces`` of 64 columns of a tile from piece ``begin`` on, and add the products to
// ``sums`` (inputs, 32).
template <int Inputs> HARNESS_TARGET
static void multiply_tile(const Tile& tile, int begin, int pieces, const uint16_t* x, float* sums) {
    constexpr int chains = Inputs <= 3 ? 2 : 1;  // with few inputs the sums would wait for each other
    for (int piece = begin; piece < begin + pieces; ++piece) {
        __m512 total[chains][Inputs][2];
        for (auto& chain : total)
            for (auto& input : chain) input[0] = input[1] = _mm512_setzero_ps();
        const uint16_t(*levels)[2 * kTileRows] = tile.levels + piece * kPairs;
        const uint16_t* from = x + (piece - begin) * kBlock;
        for (int pair = 0; pair < kPairs; pair += chains)
            for (int chain = 0; chain < chains; ++chain) {
                const __m512bh low = as_halves(_mm512_load_si512(levels[pair + chain]));
                const __m512bh high = as_halves(_mm512_load_si512(levels[pair + chain] + kTileRows));
                for (int input = 0; input < Inputs; ++input) {
                    int32_t two;
                    std::memcpy(&two, from + input * kHalfColumns + 2 * (pair + chain), sizeof two);
                    const __m512bh both = as_halves(_mm512_set1_epi32(two));
                    total[chain][input][0] = _mm512_dpbf16_ps(total[chain][input][0], low, both);
                    total[chain][input][1] = _mm512_dpbf16_ps(total[chain][input][1], high, both);
                }
            }
        for (int part = 0; part < 2; ++part) {
            const __m512 scales = _mm512_load_ps(tile.scales[piece] + 16 * part);
            for (int input = 0; input < Inputs; ++input) {
                float* sum = sums + input * kTileRows + 16 * part;
                __m512 of_piece = total[0][input][part];
                if (chains == 2) of_piece = _mm512_add_ps(of_piece, total[chains - 1][input][part]);
                _mm512_storeu_ps(sum, _mm512_fmadd_ps(of_piece, scales, _mm512_loadu_ps(sum)));
            }
        }
    }
}

using TileProduct = void (*)(const Tile&, int, int, const uint16_t*, float*);

static TileProduct tile_product(int inputs) {
    static const TileProduct products[kTileInputs] = {
        multiply_tile<1>, multiply_tile<2>, multiply_tile<3>, multiply_tile<4>,
        multiply_tile<5>, multiply_tile<6>, multiply_tile<7>, multiply_tile<8>,
    };
    return products[inputs - 1];
}

// Look up the tile of 32 rows from ``row`` on and of ``length`` columns from ``from`` on; rows from ``end`` on repeat the
// last one, and what is computed of them is dropped.
static void look_up_tile(const Weights& w, int64_t row, int64_t end, int64_t from, int64_t length, __m512i table, Tile& tile) {
    const int64_t stride = w.columns / 2;
    const bool last = from + length >= w.columns;
    const int64_t ahead = last ? kTileRows * stride - from / 2 : kTileColumns / 2;
    const int64_t next = last && row + 2 * kTileRows > end ? 0 : ahead;
    for (int lane = 0; lane < kTileRows; lane += 16) {
        const uint8_t* rows[16];
        for (int i = 0; i < 16; ++i) rows[i] = w.codes + std::min(row + lane + i, end - 1) * stride + from / 2;
        for (int64_t column = 0; column < length; column += 128) {
            look_up_rows(rows, length - column < 128, next, table, tile, static_cast<int>(column / 2), lane);
            for (const uint8_t*& of_row : rows) of_row += 64;
        }
    }
    for (int lane = 0; lane < kTileRows; ++lane) {
        float scales[kTilePieces];
        w.scales((std::min(row + lane, end - 1) * w.columns + from) / kBlock, length / kBlock, scales);
        for (int piece = 0; piece < length / kBlock; ++piece) tile.scales[piece][lane] = scales[piece];
    }
}

// Copy inputs x (inputs, columns) to ``to`` (columns / 256, inputs, 256), so that inputs do not lie a power of two apart,
// where they would drive each other out of the cache.
static void arrange_halves(const uint16_t* x, int64_t inputs, int64_t columns, uint16_t* to) {
    for (int64_t from = 0; from < columns; from += kHalfColumns) {
        const size_t bytes = sizeof *x * static_cast<size_t>(std::min<int64_t>(kHalfColumns, columns - from));
        for (int64_t input = 0; input < inputs; ++input, to += kHalfColumns)
            std::memcpy(to, x + input * columns + from, bytes);
    }
}

// Multiply arranged inputs by the rows [begin, end), both in bfloat16, to out (inputs, rows).
static void multiply_halves(const Weights& w, const uint16_t* x, int64_t inputs, int64_t begin, int64_t end, uint16_t* out) {
    alignas(64) uint16_t levels[32];
    for (int i = 0; i < 32; ++i) levels[i] = half_of(w.levels[i % 16]);
    const __m512i table = _mm512_load_si512(levels);
    Tile tile;
    alignas(64) float sums[kGroup][kTileRows];
    for (int64_t group = 0; group < inputs; group += kGroup) {
        const int count = static_cast<int>(std::min<int64_t>(kGroup, inputs - group));
        const int parts = (count + kTileInputs - 1) / kTileInputs;
        for (int64_t row = begin; row < end; row += kTileRows) {
            std::fill_n(sums[0], count * kTileRows, 0.0f);
            for (int64_t from = 0; from < w.columns; from += kTileColumns) {
                const int64_t length = std::min<int64_t>(kTileColumns, w.columns - from);
                look_up_tile(w, row, end, from, length, table, tile);
                for (int64_t half = 0; half < length; half += kHalfColumns) {
                    const int pieces = static_cast<int>(std::min<int64_t>(kHalfColumns, length - half) / kBlock);
                    const uint16_t* with = x + (from + half) * inputs + group * kHalfColumns;
                    for (int part = 0; part < parts; ++part) {
                        const int first = count * part / parts, stop = count * (part + 1) / parts;
                        tile_product(stop - first)(tile, static_cast<int>(half / kBlock), pieces,
                                                   with + first * kHalfColumns, sums[first]);
                    }
                }
            }
            const int64_t lanes = std::min<int64_t>(kTileRows, end - row);
            for (int input = 0; input < count; ++input) {
                uint16_t* to = out + (group + input) * w.rows + row;
                for (int64_t lane = 0; lane < lanes; ++lane) {
                    const float sum = sums[input][lane];
                    to[lane] = std::isnan(sum) ? uint16_t{0x7fc0} : half_of(sum);
                }
            }
        }
    }
}
