// Products of several inputs in bfloat16: codes are looked up as bfloat16 levels without their scales, a row a lane, and
// multiplied with the inputs by dot products of two (AVX512-BF16). The sum of every 64 columns is multiplied by their scale
// in float32. Up to kFused inputs are multiplied with levels in registers; more with a tile of levels that is looked up
// once. Needs AVX-512 F, BW, DQ and BF16.

constexpr int kLanes = 16;        // rows in a vector
constexpr int kTileRows = 2 * kLanes;
constexpr int kTileColumns = 512; // looked up at a time: a run of 256 bytes of each row
constexpr int kTilePieces = kTileColumns / kBlock;
constexpr int kHalfColumns = 256; // multiplied at a time: their levels take 16 KiB, half of the first cache
constexpr int kPart = 8;          // inputs multiplied at a time: with two vectors of rows 16 sums, of which compilers spill none
constexpr int kGroupParts = 32;   // parts whose sums are kept at a time
constexpr int kFused = 16;        // inputs up to which looking codes up again for each part costs less than storing levels
constexpr int kNext = 512;        // bytes to prefetch ahead in each of 16 rows
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
    for (int word = 0; word < (half ? 8 : 16); ++word) {
        __m512i levels[4];
        look_up_word(v[word], table, levels);
        for (int k = 0; k < 4; ++k) _mm512_store_si512(tile.levels[pair + 4 * word + k] + 2 * lane, levels[k]);
    }
}

// Multiply ``Inputs`` inputs by ``pieces`` of 64 columns of a tile from piece ``begin`` on, and add the products to
// ``sums`` (inputs, 32).
template <int Inputs> HARNESS_TARGET
static void multiply_tile(const Tile& tile, int begin, int pieces, const uint32_t* x, float* sums) {
    constexpr int chains = Inputs <= 3 ? 2 : 1;  // with few inputs the sums would wait for each other
    for (int piece = begin; piece < begin + pieces; ++piece) {
        __m512 total[chains][Inputs][2];
        for (auto& chain : total)
            for (auto& input : chain) input[0] = input[1] = _mm512_setzero_ps();
        const uint16_t(*levels)[2 * kTileRows] = tile.levels + piece * kPairs;
        const uint32_t* from = x + (piece - begin) * kPairs * Inputs;
        for (int pair = 0; pair < kPairs; pair += chains)
            for (int chain = 0; chain < chains; ++chain) {
                const __m512bh low = as_halves(_mm512_load_si512(levels[pair + chain]));
                const __m512bh high = as_halves(_mm512_load_si512(levels[pair + chain] + kTileRows));
                for (int input = 0; input < Inputs; ++input) {
                    const __m512bh both = both_of(from + (pair + chain) * Inputs + input);
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

using TileProduct = void (*)(const Tile&, int, int, const uint32_t*, float*);

static TileProduct tile_product(int inputs) {
    static const TileProduct products[kPart] = {
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

// Write the sums of ``count`` inputs and the rows [row, end), of which there are ``stride`` or fewer, in bfloat16.
static void write_halves(const float* sums, int count, int stride, int64_t row, int64_t end, int64_t rows, uint16_t* out) {
    const int64_t lanes = std::min<int64_t>(stride, end - row);
    for (int input = 0; input < count; ++input)
        for (int64_t lane = 0; lane < lanes; ++lane) {
            const float sum = sums[input * stride + lane];
            out[input * rows + row + lane] = std::isnan(sum) ? uint16_t{0x7fc0} : half_of(sum);
        }
}

// Multiply packed inputs by the rows [begin, end), with tiles, to out (inputs, rows).
static void multiply_by_tiles(const Weights& w, __m512i table, const Packed& x, int64_t begin, int64_t end, uint16_t* out) {
    Tile tile;
    alignas(64) float sums[kGroupParts * kPart][kTileRows];
    for (int64_t group = 0; group < x.parts; group += kGroupParts) {
        const int64_t stop = std::min<int64_t>(x.parts, group + kGroupParts), first = x.first(group);
        const int count = static_cast<int>(x.first(stop) - first);
        for (int64_t row = begin; row < end; row += kTileRows) {
            std::fill_n(sums[0], count * kTileRows, 0.0f);
            for (int64_t from = 0; from < w.columns; from += kTileColumns) {
                const int64_t length = std::min<int64_t>(kTileColumns, w.columns - from);
                look_up_tile(w, row, end, from, length, table, tile);
                for (int64_t half = 0; half < length; half += kHalfColumns) {
                    const int pieces = static_cast<int>(std::min<int64_t>(kHalfColumns, length - half) / kBlock);
                    for (int64_t part = group; part < stop; ++part)
                        tile_product(x.count(part))(tile, static_cast<int>(half / kBlock), pieces,
                                                    x.of(part) + (from + half) / 2 * x.count(part),
                                                    sums[x.first(part) - first]);
                }
            }
            write_halves(sums[0], count, kTileRows, row, end, w.rows, out + first * w.rows);
        }
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
static void multiply_fused(const Weights& w, __m512i table, const Packed& x, int64_t begin, int64_t end, uint16_t* out) {
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

// Multiply packed inputs by the rows [begin, end), both in bfloat16, to out (inputs, rows).
static void multiply_halves(const Weights& w, const Packed& x, int64_t begin, int64_t end, uint16_t* out) {
    alignas(64) uint16_t levels[32];
    for (int i = 0; i < 32; ++i) levels[i] = half_of(w.levels[i % 16]);
    const __m512i table = _mm512_load_si512(levels);
    (x.inputs <= kFused ? multiply_fused : multiply_by_tiles)(w, table, x, begin, end, out);
}
