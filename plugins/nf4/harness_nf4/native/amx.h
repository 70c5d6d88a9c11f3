// Products of several inputs in bfloat16 with AMX. Codes of 64 rows and 256 columns are looked up as weights in bfloat16,
// scales included, each row in a table of its own for every 64 columns; a tile register then holds 16 rows and 32 columns
// of them, another one these columns of 16 inputs, and an instruction multiplies both, with sums in float32. panels.h
// includes this. Needs AMX-TILE and AMX-BF16 beside what tiles.h needs.

#if defined(HARNESS_EMULATED_AVX512)
#define HARNESS_AMX_TARGET
#else
#define HARNESS_AMX_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vbmi,avx512vnni,avx512bf16,avx2,fma,amx-tile,amx-bf16")))
#endif

constexpr int kStep = 32;               // columns that an instruction multiplies
constexpr int kTurn = 4 * kStep;        // columns whose codes are looked up together: of each four, one for each step
constexpr int kStrip = kTileColumns;    // columns of which kStripRows rows of weights stay in the first cache
constexpr int kStripRows = 4 * kLanes;  // rows that share what is loaded of an input

// A row of a tile register, in memory.
struct Line {
    alignas(64) uint32_t words[16];
};

// A strip of weights: for each step of 32 columns a line for each of 64 rows.
struct Strip {
    Line lines[kStrip / kStep][kStripRows];
};

// The inputs, in parts of 16: for each step a line for each pair of columns, a word an input. Step q of 128 columns has
// columns q, q + 4, q + 8 ...; what there is no input or column for is 0.
struct Operand {
    int64_t inputs, columns, parts;
    std::unique_ptr<Line[]> lines;

    Operand(int64_t inputs, int64_t columns)
        : inputs(inputs), columns(columns), parts((inputs + kLanes - 1) / kLanes),
          lines(new Line[static_cast<size_t>((columns + kTurn - 1) / kTurn * 4 * parts * kLanes)]) {}
    int64_t first(int64_t part) const { return std::min(inputs, part * kLanes); }
    int64_t filled() const { return (columns + kTurn - 1) / kTurn * kTurn; }
    // Return the lines of a part and of the step of column ``from``, after which those of the strip's next steps follow.
    Line* of(int64_t part, int64_t from) const {
        const int64_t strip = from / kStrip * kStrip, steps = std::min<int64_t>(kStrip, filled() - strip) / kStep;
        return lines.get() + (strip / kStep * parts + part * steps + (from - strip) / kStep) * kLanes;
    }
    // Pack the columns [from, from + kTurn).
    void pack(const uint16_t* x, int64_t from) const {
        const __m512i pairs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
        for (int64_t part = 0; part < parts; ++part)
            for (int64_t at = 0; at < kTurn; at += kStep) {
                __m512i v[16];
                for (int i = 0; i < kLanes; ++i) {
                    const int64_t input = part * kLanes + i;
                    v[i] = input < inputs && from + at < columns
                               ? _mm512_shuffle_epi8(_mm512_loadu_si512(x + input * columns + from + at), pairs)
                               : _mm512_setzero_si512();
                }
                transpose(v);
                for (int i = 0; i < 16; ++i) _mm512_store_si512(of(part, from + i % 4 * kStep) + at / 8 + i / 4, v[i]);
            }
    }
};

// The scales of 16 rows of a strip: that of a row and of the nth 64 columns is at ``of[row][n * stride]``.
struct StripScales {
    const float* of[kLanes];
    int64_t stride;
    float room[kLanes][kStrip / kBlock];

    // Find them; return whether each is 0 or of a size that bfloat16 holds.
    bool find(const Source& source, int64_t row, int64_t from, int64_t length) {
        const Weights& w = source.w;
        const int64_t blocks = w.columns / kBlock, first = from / kBlock, count = length / kBlock;
        const bool together = source.together(row) && w.absmax && w.block == kBlock;
        stride = together ? kLanes : 1;
        __mmask16 sound = 0xffff;
        const auto check = [&](__m512 scales, __mmask16 mask) {
            const __m512 sizes = _mm512_abs_ps(scales);
            const __mmask16 some = _mm512_cmp_ps_mask(sizes, _mm512_set1_ps(kSmallest), _CMP_GE_OQ) |
                                   _mm512_cmp_ps_mask(sizes, _mm512_setzero_ps(), _CMP_EQ_OQ);
            sound &= static_cast<__mmask16>(~mask | (some & _mm512_cmp_ps_mask(sizes, _mm512_set1_ps(kLargest), _CMP_LE_OQ)));
        };
        if (together) {
            const float* at = w.absmax + row * blocks + first * kLanes;
            for (int i = 0; i < kLanes; ++i) of[i] = at + i;
            for (int64_t n = 0; n < count; ++n) check(_mm512_loadu_ps(at + n * kLanes), 0xffff);
        } else {
            const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
            for (int i = 0; i < kLanes; ++i) {
                of[i] = w.scales_of(std::min(row + i, w.rows - 1) * blocks + first, count, room[i]);
                check(_mm512_castsi512_ps(_mm512_maskz_loadu_epi32(mask, of[i])), mask);
            }
        }
        return sound == 0xffff;
    }
};

// Look up ``length`` columns from ``from`` on of 16 rows to lines ``line`` on of a strip, whose columns beyond, up to a
// multiple of 128, become 0. Return false where a scale is neither 0 nor of a size that bfloat16 holds.
static bool look_up_strip(const Source& source, int64_t row, int64_t from, int64_t length, int line, Strip& strip) {
    StripScales scales;
    if (!scales.find(source, row, from, length)) return false;
    const __m512 levels = _mm512_loadu_ps(source.w.levels);
    const __m512i below = _mm512_set1_epi16(15);
    const __m512i second = _mm512_inserti32x8(_mm512_setzero_si512(), _mm256_set1_epi16(16), 1);  // of two blocks
    for (int64_t at = 0; at < length; at += kTurn) {
        const bool whole = length - at >= kTurn;
        __m512i v[16];
        source.rows(row, from + at, whole ? 2 * kWords : kWords, v);
        for (int i = 0; i < kLanes; ++i) {
            const float* own = scales.of[i] + at / kBlock * scales.stride;
            const __m512 other = _mm512_set1_ps(whole ? own[scales.stride] : 0);
            const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_mul_ps(levels, other), _mm512_mul_ps(levels, _mm512_set1_ps(own[0])));
            __m512i table;
            std::memcpy(&table, &both, sizeof table);
            const __m512i codes[4] = {_mm512_srli_epi16(v[i], 4), v[i], _mm512_srli_epi16(v[i], 12), _mm512_srli_epi16(v[i], 8)};
            for (int q = 0; q < 4; ++q) {
                const __m512i index = _mm512_ternarylogic_epi32(codes[q], below, second, 0xea);  // (code & 15) | second
                _mm512_store_si512(&strip.lines[at / kStep + q][line + i], _mm512_permutexvar_epi16(index, table));
            }
        }
    }
    return true;
}

// Let the compiler finish what it writes to memory, and forget what it read: GCC tells it of no memory that the
// instructions of tiles use.
static inline void finish_memory() { asm volatile("" : : : "memory"); }

// What the tile registers hold, as LDTILECFG reads it.
struct TileShapes {
    alignas(64) uint8_t palette = 0;
    uint8_t start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// Tile registers of 16 lines, as long as it lives. What they were before comes back, as another library may count on it.
class Tiles {
  public:
    HARNESS_AMX_TARGET Tiles() {
        finish_memory();  // or zeros for ``before_`` could be written after what it is: GCC believes 8 bytes are stored
        _tile_storeconfig(&before_);
        finish_memory();
        TileShapes shapes;
        shapes.palette = 1;
        for (int i = 0; i < 8; ++i) {
            shapes.bytes[i] = sizeof(Line);
            shapes.rows[i] = kLanes;
        }
        finish_memory();
        _tile_loadconfig(&shapes);
    }
    HARNESS_AMX_TARGET ~Tiles() {
        finish_memory();
        _tile_loadconfig(&before_);
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

  private:
    TileShapes before_;
};

// Multiply 64 rows and ``steps`` steps of a strip by the lines ``x`` of 16 inputs, and add the products to 64 ``sums``.
HARNESS_AMX_TARGET
static void multiply_strip(const Strip& strip, int64_t steps, const Line* x, Line* sums) {
    finish_memory();
    _tile_loadd(0, sums, sizeof(Line));
    _tile_loadd(1, sums + kLanes, sizeof(Line));
    _tile_loadd(2, sums + 2 * kLanes, sizeof(Line));
    _tile_loadd(3, sums + 3 * kLanes, sizeof(Line));
    for (int64_t step = 0; step < steps; ++step, x += kLanes) {
        const Line* weights = strip.lines[step];
        _tile_loadd(4, x, sizeof(Line));
        _tile_loadd(5, weights, sizeof(Line));
        _tile_dpbf16ps(0, 5, 4);
        _tile_loadd(6, weights + kLanes, sizeof(Line));
        _tile_dpbf16ps(1, 6, 4);
        _tile_loadd(7, weights + 2 * kLanes, sizeof(Line));
        _tile_dpbf16ps(2, 7, 4);
        _tile_loadd(5, weights + 3 * kLanes, sizeof(Line));
        _tile_dpbf16ps(3, 5, 4);
    }
    _tile_stored(0, sums, sizeof(Line));
    _tile_stored(1, sums + kLanes, sizeof(Line));
    _tile_stored(2, sums + 2 * kLanes, sizeof(Line));
    _tile_stored(3, sums + 3 * kLanes, sizeof(Line));
    finish_memory();
}

// Write the sums of ``count`` inputs of a part and ``rows`` of kTileRows rows, in bfloat16.
static void write_sums(const Line* sums, int64_t count, int64_t rows, int64_t stride, uint16_t* out) {
    __m512i low[16], high[16];
    for (int i = 0; i < kLanes; ++i) {
        low[i] = _mm512_load_si512(sums + i);
        high[i] = _mm512_load_si512(sums + kLanes + i);
    }
    transpose(low);
    transpose(high);
    for (int64_t input = 0; input < count; ++input, out += stride) {
        const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_castsi512_ps(high[input]), _mm512_castsi512_ps(low[input]));
        if (rows == kTileRows) std::memcpy(out, &both, sizeof both);
        else std::memcpy(out, &both, static_cast<size_t>(rows) * sizeof *out);
    }
}

// Multiply inputs by the rows [begin, end), of which ``begin`` is a multiple of kStripRows, to out (inputs, rows). Return false,
// with ``out`` unfinished, where a scale is neither 0 nor of a size that bfloat16 holds.
HARNESS_AMX_TARGET
static bool multiply_operand(const Source& source, const Operand& x, int64_t begin, int64_t end, uint16_t* out) {
    constexpr int64_t together = kGroup / kLanes;  // parts whose sums are kept at a time
    const Weights& w = source.w;
    const Tiles tiles;
    const int64_t most = std::min(together, x.parts);
    const int64_t kept = x.inputs * x.columns <= kInputs ? kStripRows : kSums / (most * kLanes) / kStripRows * kStripRows;
    std::unique_ptr<Line[]> sums(new Line[static_cast<size_t>(kept * most)]);
    std::unique_ptr<Strip> strip(new Strip{});
    for (int64_t group = 0; group < x.parts; group += together) {
        const int64_t stop = std::min(x.parts, group + together), parts = stop - group;
        for (int64_t block = begin; block < end; block += kept) {
            const int64_t last = std::min(end, block + kept), strips = (last - block + kStripRows - 1) / kStripRows;
            std::memset(sums.get(), 0, static_cast<size_t>(strips * kStripRows * parts) * sizeof(Line));
            for (int64_t from = 0; from < w.columns; from += kStrip) {
                const int64_t length = std::min<int64_t>(kStrip, w.columns - from);
                for (int64_t row = block; row < last; row += kStripRows) {
                    const bool below = row + kStripRows < last, beside = from + length < w.columns;  // where the next strip is
                    const int64_t next = below ? row + kStripRows : beside ? block : last;
                    const int64_t next_from = below ? from : beside ? from + length : 0;
                    for (int line = 0; line < kStripRows && row + line < w.rows; line += kLanes) {
                        if (next < end) source.prefetch(next + line, next_from);
                        if (!look_up_strip(source, row + line, from, length, line, *strip)) return false;
                    }
                    const int64_t steps = (length + kTurn - 1) / kTurn * 4;
                    Line* to = sums.get() + (row - block) * parts;
                    for (int64_t part = group; part < stop; ++part, to += kStripRows)
                        multiply_strip(*strip, steps, x.of(part, from), to);
                }
            }
            for (int64_t row = block; row < last; row += kTileRows)
                for (int64_t part = group; part < stop; ++part) {
                    const int64_t strip_of = (row - block) / kStripRows * kStripRows, within = (row - block) % kStripRows;
                    write_sums(sums.get() + strip_of * parts + (part - group) * kStripRows + within,
                               x.first(part + 1) - x.first(part), std::min<int64_t>(kTileRows, end - row), w.rows,
                               out + x.first(part) * w.rows + row);
                }
        }
    }
    return true;
}
