// Products with interleaved codes, in fixed point: the codes of kInterleaved rows lie together, a word of eight columns of
// each row after another, so that a vector holds 16 rows, a lane each. Codes are read in one run, and looked up once for
// all inputs; a lane's sum of 64 columns is converted and scaled once. Needs AVX-512 F, BW and DQ. tiles.h uses `transpose`.

constexpr int kColumnsOfWord = 8;
constexpr int kWords = kBlock / kColumnsOfWord;

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

// Write the scales of 16 rows from ``row`` on as vectors of 16, one for every 64 columns.
static void transpose_scales(const Weights& w, int64_t row, float* to) {
    const int64_t blocks = w.columns / kBlock;
    float room[kInterleaved][16];
    __m512i v[16];
    for (int64_t from = 0; from < blocks; from += 16) {
        const int count = static_cast<int>(std::min<int64_t>(16, blocks - from));
        const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
        for (int i = 0; i < kInterleaved; ++i)
            v[i] = _mm512_maskz_loadu_epi32(mask, w.scales_of((row + i) * blocks + from, count, room[i]));
        transpose(v);
        for (int i = 0; i < count; ++i) _mm512_storeu_si512(to + (from + i) * kInterleaved, v[i]);
    }
}

// Convert an input to 16-bit integers, the pairs of columns k and k + 4 of every eight to a word, and to a scale for every
// 64 columns; ``stride`` inputs take turns in ``words`` and ``scales``. Return false as `arrange` does.
template <typename Number> HARNESS_TARGET
static bool arrange_words(const Number* x, int64_t columns, int64_t stride, uint32_t* words, float* scales) {
    for (int64_t block = 0; block < columns / kBlock; ++block) {
        float from[kBlock];
        widen(x + block * kBlock, kBlock, from);
        const float largest = largest_of(0, from, kBlock);
        if (!std::isfinite(largest) || (largest > 0 && largest < kSmallest)) return false;
        scales[block * stride] = largest / (kFixedLane * kFixedLane);
        const float inverse = largest > 0 ? kFixedLane / largest : 0;
        int32_t rounded[kBlock];
        for (int i = 0; i < kBlock; ++i) rounded[i] = static_cast<int32_t>(from[i] * inverse + kNoFraction - kNoFraction);
        uint32_t* to = words + block * (kBlock / 2) * stride;
        for (int i = 0; i < kBlock; i += kColumnsOfWord)
            for (int k = i; k < i + kColumnsOfWord / 2; ++k, to += stride)
                *to = (static_cast<uint32_t>(rounded[k]) & 0xffff) | static_cast<uint32_t>(rounded[k + 4]) << 16;
    }
    return true;
}

// Groups of rows: their codes, vectors of their scales, and the groups from one to the next that is read at once.
struct Groups {
    const uint8_t* codes;
    const float* scales;
    int64_t columns, apart;
};

// Multiply ``Inputs`` inputs by ``Count`` groups of rows, which are read at once, to out (inputs, rows); ``Ahead`` says to
// prefetch codes.
template <int Count, int Inputs, bool Ahead> HARNESS_TARGET
static void multiply_groups(const FixedTable& table, const Groups& of, const uint32_t* x, const float* x_scales, float* out,
                            int64_t rows) {
    const int64_t blocks = of.columns / kBlock, stride = of.columns / 2 * kInterleaved * of.apart;
    __m512 total[Count][Inputs];
    for (auto& group : total)
        for (__m512& lanes : group) lanes = _mm512_setzero_ps();
    for (int64_t block = 0; block < blocks; ++block) {
        __m512i sum[Count][Inputs];
        for (auto& group : sum)
            for (__m512i& lanes : group) lanes = _mm512_setzero_si512();
        for (int64_t word = block * kWords; word < (block + 1) * kWords; ++word)
            for (int group = 0; group < Count; ++group) {
                const uint8_t* codes = of.codes + group * stride + word * 64;
                if (Ahead) __builtin_prefetch(codes + kSoon);
                __m512i levels[4];
                decode(table, _mm512_loadu_si512(codes), levels);
                for (int k = 0; k < 4; ++k)
                    for (int input = 0; input < Inputs; ++input) {
                        const auto both = static_cast<int32_t>(x[(word * 4 + k) * Inputs + input]);
                        sum[group][input] = Lanes::multiply_add(levels[k], _mm512_set1_epi32(both), sum[group][input]);
                    }
            }
        for (int group = 0; group < Count; ++group) {
            const __m512 scales = _mm512_loadu_ps(of.scales + (group * of.apart * blocks + block) * kInterleaved);
            for (int input = 0; input < Inputs; ++input) {
                const __m512 both = _mm512_mul_ps(scales, _mm512_set1_ps(x_scales[block * Inputs + input]));
                total[group][input] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[group][input]), both, total[group][input]);
            }
        }
    }
    for (int group = 0; group < Count; ++group)
        for (int input = 0; input < Inputs; ++input)
            _mm512_storeu_ps(out + input * rows + group * of.apart * kInterleaved, total[group][input]);
}

// Multiply ``Inputs`` inputs by ``count`` groups of rows: as many at once as leave a register for each sum. These lie far
// apart, so that the processor prefetches each by itself.
template <int Inputs, bool Ahead> HARNESS_TARGET
static void multiply_part(const FixedTable& table, Groups of, int64_t count, const uint32_t* x, const float* x_scales,
                          float* out, int64_t rows) {
    constexpr int together = Inputs == 1 ? 4 : Inputs <= 4 ? 2 : 1;
    const int64_t codes = of.columns / 2 * kInterleaved, scales = of.columns / kBlock * kInterleaved;
    of.apart = count / together;
    const auto next = [&] {
        of.codes += codes;
        of.scales += scales;
        out += kInterleaved;
    };
    for (int64_t i = 0; i < of.apart; ++i, next()) multiply_groups<together, Inputs, Ahead>(table, of, x, x_scales, out, rows);
    of.codes += (together - 1) * of.apart * codes;
    of.scales += (together - 1) * of.apart * scales;
    out += (together - 1) * of.apart * kInterleaved;
    for (int64_t i = together * of.apart; i < count; ++i, next()) multiply_groups<1, Inputs, Ahead>(table, of, x, x_scales, out, rows);
}

// Multiply all inputs by the groups of rows [begin, end) to out (inputs, rows). Where a scale is stored for every 64
// weights, scales are interleaved as codes are, the word of a row a scale.
template <typename Number> HARNESS_TARGET
static void multiply_interleaved(const Weights& w, const Interleaved& x, int64_t begin, int64_t end, Number* out) {
    using Part = void (*)(const FixedTable&, Groups, int64_t, const uint32_t*, const float*, float*, int64_t);
    static const Part parts[kTogether] = {
        prefetches() ? multiply_part<1, true> : multiply_part<1, false>, multiply_part<2, true>, multiply_part<3, true>,
        multiply_part<4, true>, multiply_part<5, true>, multiply_part<6, true>, multiply_part<7, true>, multiply_part<8, true>,
    };
    int16_t fixed[16];
    for (int i = 0; i < 16; ++i) fixed[i] = static_cast<int16_t>(std::lrintf(w.levels[i] * kFixedLane));
    const FixedTable table(fixed);
    const int64_t codes = w.columns / 2 * kInterleaved, scales = w.columns / kBlock * kInterleaved;
    const int64_t step = x.parts == 1 ? end - begin : std::min(end - begin, std::max<int64_t>(2, kKept / codes));
    const bool stored = w.absmax && w.block == kBlock;
    std::vector<float> room(stored ? 0 : static_cast<size_t>(step * scales));
    std::unique_ptr<float[]> products(new float[static_cast<size_t>(step * kInterleaved * kTogether)]);
    for (int64_t group = begin; group < end; group += step) {
        const int64_t count = std::min(step, end - group), rows = count * kInterleaved;
        for (int64_t i = 0; !stored && i < count; ++i)
            transpose_scales(w, (group + i) * kInterleaved, room.data() + i * scales);
        const Groups of{w.codes + group * codes, stored ? w.absmax + group * scales : room.data(), w.columns, 1};
        for (int64_t part = 0; part < x.parts; ++part) {
            parts[x.count(part) - 1](table, of, count, x.words_of(part), x.scales_of(part), products.get(), rows);
            for (int64_t i = 0; i < x.count(part); ++i)
                narrow(products.get() + i * rows, rows, out + (x.first(part) + i) * w.rows + group * kInterleaved);
        }
    }
}
