// Products of many inputs in bfloat16: the codes of some rows and 256 or 512 columns are looked up as weights in bfloat16, scales
// included, each row in a table of its own for every 64 columns. 256 columns of this strip stay in the first cache while all
// inputs are multiplied with them; the inputs' values of these columns, and the sums of several strips, stay in the second one.
// Products are dot products of two, 16 inputs in a vector, or those of AMX (amx.h). tiles.h includes this.

constexpr int kStep = 32;               // columns of a line of weights
constexpr int kTurn = 4 * kStep;        // columns whose codes are looked up together: of each four, one for each step
constexpr int kMostColumns = 512;       // of a strip
constexpr int kMultiplied = 256;        // columns of a strip that are multiplied together: their weights fit the first cache
constexpr int kGroup = 256;             // inputs whose sums are kept at a time
constexpr int64_t kSums = 1 << 16;      // sums kept at a time: 256 KiB, a quarter of the second cache
constexpr int64_t kInputs = 1 << 18;    // values of inputs that stay in the second cache whatever the strip
constexpr int kTileRows = 2 * kLanes;   // rows whose products are written together
constexpr float kLargest = 1e38f;       // a larger scale could be rounded to infinity

// A weight and how its codes lie.
struct Source {
    const Weights& w;
    bool interleaved;

    // Return whether the rows from ``row`` on, a multiple of 16, are interleaved.
    bool together(int64_t row) const { return interleaved && row + kInterleaved <= w.rows; }

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

    // Prefetch the codes of 16 rows and ``columns`` columns. Compilers drop a call of a function that only prefetches.
    __attribute__((always_inline)) inline void prefetch(int64_t row, int64_t from, int columns) const {
        const int64_t stride = w.columns / 2;
        const bool run = together(row);
        const uint8_t* at = w.codes + row * stride + (run ? from * (kLanes / 2) : from / 2);
        for (int i = 0; i < kLanes && row + i < w.rows; ++i)
            for (int line = 0; line < columns / 2; line += 64)
                __builtin_prefetch(at + i * (run ? columns / 2 : stride) + line, 0, 2);
    }
};

// A vector of pairs of columns: of one row of the weight, or of one pair of 16 inputs; or the sums of a row with 16 inputs.
struct Line {
    alignas(64) uint32_t words[16];
};

// A strip of weights: for each step of 32 columns a line for each row.
template <int Rows, int Columns> struct Strip {
    Line lines[Columns / kStep][Rows];
};

// Return the steps of ``columns`` columns, of which the last may be filled with 0, and how many lines of a part they have.
static inline int64_t steps_of(int64_t columns) { return (columns + kTurn - 1) / kTurn * 4; }
static inline int64_t lines_of(int64_t columns) { return steps_of(columns) * kLanes; }

static inline __m512 load(const Line& line) { return _mm512_castsi512_ps(_mm512_load_si512(&line)); }

// The inputs, in parts of 16: for each step a line for each pair of columns, a word an input. Step q of 128 columns has
// columns q, q + 4, q + 8 ...; what there is no input or column for is 0.
struct Operand {
    int64_t inputs, columns, parts, strip_columns;
    std::unique_ptr<Line[]> lines;

    Operand(int64_t inputs, int64_t columns, int64_t strip_columns)
        : inputs(inputs), columns(columns), parts((inputs + kLanes - 1) / kLanes), strip_columns(strip_columns),
          lines(new Line[static_cast<size_t>(lines_of(columns) * parts)]) {}
    int64_t first(int64_t part) const { return std::min(inputs, part * kLanes); }
    // Return the lines of a part and of the step of column ``from``, after which those of the strip's next steps follow.
    Line* of(int64_t part, int64_t from) const {
        const int64_t first = from / strip_columns * strip_columns, steps = steps_of(std::min(strip_columns, columns - first));
        return lines.get() + (first / kStep * parts + part * steps + (from - first) / kStep) * kLanes;
    }
    // Pack the inputs of a part: each of its rows is read in one run.
    void pack(const uint16_t* x, int64_t part) const {
        const __m512i pairs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15));
        for (int64_t from = 0; from < columns; from += kTurn) {
            Line* to = of(part, from);
            for (int64_t at = 0; at < kTurn; at += kStep) {
                __m512i v[16];
                for (int i = 0; i < kLanes; ++i) {
                    const int64_t input = part * kLanes + i;
                    v[i] = input < inputs && from + at < columns
                               ? _mm512_shuffle_epi8(_mm512_loadu_si512(x + input * columns + from + at), pairs)
                               : _mm512_setzero_si512();
                }
                transpose(v);
                for (int i = 0; i < 16; ++i) _mm512_store_si512(to + i % 4 * kLanes + at / 8 + i / 4, v[i]);
            }
        }
    }
};

// The scales of 16 rows of a strip: that of a row and of the nth 64 columns is at ``of[row][n * stride]``.
struct StripScales {
    const float* of[kLanes];
    int64_t stride;
    float room[kLanes][kMostColumns / kBlock];

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
template <int Rows> HARNESS_TARGET
static bool look_up_strip(const Source& source, int64_t row, int64_t from, int64_t length, int line, Line (*strip)[Rows]) {
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
                _mm512_store_si512(&strip[at / kStep + q][line + i], _mm512_permutexvar_epi16(index, table));
            }
        }
    }
    return true;
}

// Write the sums of ``count`` inputs of a part and ``rows`` of kTileRows rows, in bfloat16.
static void write_sums(const Line* sums, int64_t count, int64_t rows, int64_t stride, uint16_t* out) {
    alignas(64) uint16_t order[2 * kLanes];
    for (int i = 0; i < 2 * kLanes; ++i) order[i] = static_cast<uint16_t>(i / 2 + i % 2 * kLanes);
    const __m512i pairs = _mm512_load_si512(order);
    __m512i v[16];
    for (int i = 0; i < kLanes; ++i) {  // two rows: a pair of them for each input
        const __m512bh both = _mm512_cvtne2ps_pbh(load(sums[2 * i + 1]), load(sums[2 * i]));
        std::memcpy(v + i, &both, sizeof both);
        v[i] = _mm512_permutexvar_epi16(pairs, v[i]);
    }
    transpose(v);
    const size_t size = static_cast<size_t>(rows) * sizeof *out;
    for (int64_t input = 0; input < count; ++input, out += stride)
        if (size == sizeof *v) _mm512_storeu_si512(out, v[input]);
        else std::memcpy(out, v + input, size);
}

// Products with a strip by dot products of two, with 16 inputs in a vector.
struct Dots {
    static constexpr int kRows = kTileRows, kColumns = 512;  // of a strip: codes in rows are then read in longer pieces of each page

    // Multiply ``columns`` columns of a strip by ``parts`` parts of inputs, whose lines are ``stride`` apart, to ``sums``, kRows
    // lines for each part. ``first`` says that there are no products yet to add these to.
    void multiply(const Line (*strip)[kRows], int64_t columns, const Line* x, int64_t stride, int64_t parts, Line* sums,
                  bool first) const {
        for (; parts >= 2; parts -= 2, x += 2 * stride, sums += 2 * kRows)
            for (int line = 0; line < kRows; line += 8) multiply_lines<8, 2>(strip, line, columns, x, stride, sums + line, first);
        if (parts)
            for (int line = 0; line < kRows; line += 16)
                multiply_lines<16, 1>(strip, line, columns, x, stride, sums + line, first);
    }

  private:
    // The same with ``Rows`` rows from ``line`` on, whose 16 sums stay in registers. Loops over sums are unrolled before
    // registers are assigned: else compilers keep the sums in memory, too.
    template <int Rows, int Parts> HARNESS_TARGET
    static void multiply_lines(const Line (*strip)[kRows], int line, int64_t columns, const Line* x, int64_t stride, Line* sums,
                               bool first) {
        __m512 total[Parts * Rows];
#pragma GCC unroll 16
        for (int i = 0; i < Parts * Rows; ++i) total[i] = first ? _mm512_setzero_ps() : load(sums[i / Rows * kRows + i % Rows]);
        for (int64_t step = 0; step < steps_of(columns); ++step, x += kLanes) {
            const Line* weights = strip[step] + line;
            const int pairs = columns - step / 4 * kTurn < kTurn ? kLanes / 2 : kLanes;  // of 64 columns there are no others
#pragma GCC unroll 4
            for (int pair = 0; pair < pairs; ++pair) {
                __m512bh of_inputs[Parts];
                for (int p = 0; p < Parts; ++p) of_inputs[p] = as_halves(_mm512_load_si512(x + p * stride + pair));
#pragma GCC unroll 16
                for (int row = 0; row < Rows; ++row) {
                    const __m512bh weight = both_of(weights[row].words + pair);
#pragma GCC unroll 2
                    for (int p = 0; p < Parts; ++p)
                        total[p * Rows + row] = _mm512_dpbf16_ps(total[p * Rows + row], of_inputs[p], weight);
                }
            }
        }
#pragma GCC unroll 16
        for (int i = 0; i < Parts * Rows; ++i)
            _mm512_store_si512(sums + i / Rows * kRows + i % Rows, _mm512_castps_si512(total[i]));
    }
};

// Multiply inputs by the rows [begin, end), of which ``begin`` is a multiple of a strip's rows, to out (inputs, rows). Return
// false, with ``out`` unfinished, where a scale is neither 0 nor of a size that bfloat16 holds.
template <typename Products> HARNESS_TARGET
static bool multiply_operand(const Source& source, const Operand& x, int64_t begin, int64_t end, uint16_t* out) {
    constexpr int64_t together = kGroup / kLanes;  // parts whose sums are kept at a time
    constexpr int64_t rows = Products::kRows, columns = Products::kColumns;
    static_assert(columns <= kMostColumns, "StripScales has no room for the scales of more columns");
    const Weights& w = source.w;
    const Products products;
    const int64_t most = std::min(together, x.parts);
    const int64_t kept = x.inputs * x.columns <= kInputs ? rows : kSums / (most * kLanes) / rows * rows;
    std::unique_ptr<Line[]> sums(new Line[static_cast<size_t>(kept * most)]);
    std::unique_ptr<Strip<rows, columns>> strip(new Strip<rows, columns>{});
    for (int64_t group = 0; group < x.parts; group += together) {
        const int64_t stop = std::min(x.parts, group + together), parts = stop - group;
        for (int64_t block = begin; block < end; block += kept) {
            const int64_t last = std::min(end, block + kept);
            for (int64_t from = 0; from < w.columns; from += columns) {
                const int64_t length = std::min(columns, w.columns - from);
                for (int64_t row = block; row < last; row += rows) {
                    const bool below = row + rows < last, beside = from + length < w.columns;  // where the next strip is
                    const int64_t next = below ? row + rows : beside ? block : last;
                    const int64_t next_from = below ? from : beside ? from + length : 0;
                    for (int line = 0; line < rows && row + line < w.rows; line += kLanes) {
                        if (next < end) source.prefetch(next + line, next_from, columns);
                        if (!look_up_strip(source, row + line, from, length, line, strip->lines)) return false;
                    }
                    for (int64_t at = 0; at < length; at += kMultiplied) {
                        const int64_t count = std::min<int64_t>(kMultiplied, length - at);
                        products.multiply(strip->lines + at / kStep, count, x.of(group, from + at), lines_of(length), parts,
                                          sums.get() + (row - block) * parts, from + at == 0);
                    }
                }
            }
            for (int64_t row = block; row < last; row += kTileRows)
                for (int64_t part = group; part < stop; ++part) {
                    const int64_t strip_of = (row - block) / rows * rows, within = (row - block) % rows;
                    write_sums(sums.get() + strip_of * parts + (part - group) * rows + within,
                               x.first(part + 1) - x.first(part), std::min<int64_t>(kTileRows, end - row), w.rows,
                               out + x.first(part) * w.rows + row);
                }
        }
    }
    return true;
}

#if defined(HARNESS_AMX)
#include "amx.h"
#endif
