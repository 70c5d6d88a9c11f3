// The kernels, written with the vector operations of the struct Lanes. This file is included once for each instruction
// set, in a namespace of its own.

// Convert the activations of an input for the fixed-point product: to 16-bit integers in the order of looked-up codes,
// with a scale for every 64, both up to ``filled`` columns, of which those beyond ``columns`` are 0. Return false where
// an activation is not finite, or where the largest of 64 is not 0 but too small for a scale.
static bool arrange(const float* x, int64_t columns, int64_t filled, int16_t* fixed, float* scales) {
    std::fill(fixed + columns / (2 * Lanes::width) * (2 * Lanes::width), fixed + filled, int16_t{0});
    std::fill(scales + columns / kBlock, scales + filled / kBlock, 0.0f);
    for (int64_t block = 0; block < columns / kBlock; ++block) {
        const float* from = x + block * kBlock;
        const float largest = largest_of(0, from, kBlock);
        if (!std::isfinite(largest) || (largest > 0 && largest < kSmallest)) return false;
        scales[block] = largest / (kFixed * kFixed);
        const float inverse = largest > 0 ? kFixed / largest : 0;
        int16_t rounded[kBlock];  // to the nearest integer: adding kNoFraction rounds the fraction away
        for (int i = 0; i < kBlock; ++i)
            rounded[i] = static_cast<int16_t>(static_cast<int32_t>(from[i] * inverse + kNoFraction - kNoFraction));
        const int64_t element = block * kBlock, base = element / (2 * Lanes::width) * (2 * Lanes::width);
        for (int i = 0; i < kBlock; ++i) fixed[base + place_of(static_cast<int>(element - base) + i)] = rounded[i];
    }
    return true;
}

// Return the table of 16-bit integers that stand for levels.
static FixedTable fixed_table(const Weights& w) {
    int16_t fixed[16];
    for (int i = 0; i < 16; ++i) fixed[i] = static_cast<int16_t>(std::lrintf(w.levels[i] * kFixed));
    return FixedTable(fixed);
}

// Return the product of looked-up levels and their activations, before scales.
static inline Lanes::Ints vector_product(const Lanes::Bytes values[4], const Lanes::Bytes x[4]) {
    Lanes::Ints sum = Lanes::multiply_add(values[0], x[0]);
    for (int q = 1; q < 4; ++q) sum = Lanes::multiply_add(values[q], x[q], sum);
    return sum;
}

struct Streams {
    int64_t row, apart;  // the first row, and the rows from one to the next
};

// Multiply ``Inputs`` inputs by ``Rows`` rows, in fixed point: activations are loaded once for all rows, and codes are
// looked up once for all inputs. The rows lie far apart, so that the processor prefetches each by itself: with one row
// after another it does not keep up with the arithmetic; ``Ahead`` says to prefetch codes as well. ``buffer`` has room for a
// scale for every 64 columns, and those that fill the last vector, for each row and input; those that fill are 0.
template <int Rows, int Inputs, bool Ahead> HARNESS_TARGET
static void multiply_rows(const FixedTable& table, const Weights& w, const Fixed& x, Streams of, float* out, float* buffer) {
    const int64_t blocks = w.columns / kBlock, all_blocks = x.columns / kBlock;
    const int64_t vectors = w.columns / (2 * Lanes::width), all_vectors = x.columns / (2 * Lanes::width);
    constexpr int per_vector = 2 * Lanes::width / kBlock;
    const uint8_t* codes = w.codes + of.row * w.columns / 2;
    const int64_t stride = w.columns / 2 * of.apart;
    for (int r = 0; r < Rows; ++r) {
        float* own = buffer + (r * Inputs + Inputs - 1) * all_blocks;  // the last input's, whose room is filled last
        const float* of_row = w.scales_of((of.row + r * of.apart) * blocks, blocks, own);
        for (int c = 0; c < Inputs; ++c) {
            float* to = buffer + (r * Inputs + c) * all_blocks;
            const float* of_input = x.scales + c * all_blocks;
            for (int64_t i = 0; i < blocks; ++i) to[i] = of_row[i] * of_input[i];
        }
    }
    Lanes::Floats total[Rows][Inputs];
    for (auto& of_row : total)
        for (Lanes::Floats& lanes : of_row) lanes = Lanes::all(0);
    const auto add = [&](int64_t v, const Lanes::Bytes* of_codes) HARNESS_TARGET {
        Lanes::Bytes values[Rows][4];
        for (int r = 0; r < Rows; ++r) decode(table, of_codes[r], values[r]);
        for (int c = 0; c < Inputs; ++c) {
            Lanes::Bytes with[4];
            for (int q = 0; q < 4; ++q)
                with[q] = Lanes::load(x.values + c * x.columns + v * 2 * Lanes::width + q * Lanes::width / 2);
            for (int r = 0; r < Rows; ++r)
                total[r][c] = Lanes::add_scaled(vector_product(values[r], with),
                                                buffer + (r * Inputs + c) * all_blocks + v * per_vector, total[r][c]);
        }
    };
    for (int64_t v = 0; v < vectors; ++v) {
        Lanes::Bytes of_codes[Rows];
        for (int r = 0; r < Rows; ++r) {
            const uint8_t* at = codes + r * stride + v * Lanes::width;
            if (Ahead && (Lanes::width == 64 || v % 2 == 0)) __builtin_prefetch(at + 2 * kSoon);
            of_codes[r] = Lanes::load(at);
        }
        add(v, of_codes);
    }
    if (vectors < all_vectors) {
        Lanes::Bytes of_codes[Rows];
        for (int r = 0; r < Rows; ++r) of_codes[r] = Lanes::load_block(codes + r * stride + vectors * Lanes::width);
        add(vectors, of_codes);
    }
    for (int c = 0; c < Inputs; ++c)
        for (int r = 0; r < Rows; ++r) out[c * w.rows + of.row + r * of.apart] = Lanes::sum(total[r][c]);
}

// Multiply ``Inputs`` inputs by the rows [begin, end), ``Rows`` at a time, in fixed point.
template <int Rows, int Inputs, bool Ahead> HARNESS_TARGET
static void multiply_inputs(const Weights& w, const Fixed& x, int64_t begin, int64_t end, float* out, float* buffer) {
    const FixedTable table = fixed_table(w);
    std::fill_n(buffer, Rows * Inputs * (x.columns / kBlock), 0.0f);
    const int64_t apart = (end - begin) / Rows;
    for (int64_t row = begin; row < begin + apart; ++row)
        multiply_rows<Rows, Inputs, Ahead>(table, w, x, {row, apart}, out, buffer);
    for (int64_t row = begin + apart * Rows; row < end; ++row)
        multiply_rows<1, Inputs, Ahead>(table, w, x, {row, 1}, out, buffer);
}

static void multiply_few(const Weights& w, const Fixed& x, int64_t begin, int64_t end, float* out, float* buffer) {
    const auto with = [&](auto multiply) { multiply(w, x, begin, end, out, buffer); };
    const bool ahead = prefetches();
    switch (x.inputs) {
        case 1:
            if (!ahead) return with(multiply_inputs<kStreams, 1, false>);
            return with((end - begin) * w.columns < kEnough ? multiply_inputs<kStreams, 1, true>
                                                            : multiply_inputs<kMoreStreams, 1, true>);
        case 2: return with(ahead ? multiply_inputs<kStreams, 2, true> : multiply_inputs<kStreams, 2, false>);
        case 3: return with(multiply_inputs<kStreams, 3, false>);
        case 4: return with(multiply_inputs<kStreams, 4, false>);
        case 5: return with(multiply_inputs<kStreams, 5, false>);
        case 6: return with(multiply_inputs<kStreams, 6, false>);
        case 7: return with(multiply_inputs<kStreams, 7, false>);
        default: return with(multiply_inputs<kStreams, kFew, false>);
    }
}

// The decoded weights of a panel of columns and their scales, by row: the operand of `tile`.
struct Panel {
    alignas(64) int16_t fixed[kRows][kPanel];
    float scales[kRows][kPanel / kBlock];
};

// Multiply ``Rows`` rows of a panel, from row ``first`` on, by ``Inputs`` inputs, and add the products to ``out``.
template <int Rows, int Inputs> HARNESS_TARGET
static void tile(const Panel& panel, int first, int64_t vectors, const int16_t* x, const float* x_scales, int64_t columns,
                 float* out, int64_t stride) {
    constexpr int per_vector = 2 * Lanes::width / kBlock;
    const int64_t scales_stride = columns / kBlock;
    Lanes::Floats total[Rows][Inputs];
    for (auto& row : total)
        for (auto& lanes : row) lanes = Lanes::all(0);
    for (int64_t v = 0; v < vectors; ++v) {
        for (int c = 0; c < Inputs; ++c) {
            const int16_t* with = x + c * columns + v * 2 * Lanes::width;
            Lanes::Bytes values[4];
            for (int q = 0; q < 4; ++q) values[q] = Lanes::load(with + q * Lanes::width / 2);
            const Lanes::Floats scale = Lanes::scales(x_scales + c * scales_stride + v * per_vector);
            for (int r = 0; r < Rows; ++r) {
                const int16_t* weights = panel.fixed[first + r] + v * 2 * Lanes::width;
                Lanes::Ints sum = Lanes::multiply_add(values[0], Lanes::load(weights));
                for (int q = 1; q < 4; ++q)
                    sum = Lanes::multiply_add(values[q], Lanes::load(weights + q * Lanes::width / 2), sum);
                const Lanes::Floats both = Lanes::multiply(scale, Lanes::scales(panel.scales[first + r] + v * per_vector));
                total[r][c] = Lanes::fused(Lanes::to_floats(sum), both, total[r][c]);
            }
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < Inputs; ++c) out[c * stride + r] += Lanes::sum(total[r][c]);
}

// Multiply ``Rows`` rows of a panel by all inputs, two inputs at a time.
template <int Rows> HARNESS_TARGET
static void tiles(const Panel& panel, int first, int64_t vectors, const Fixed& x, int64_t from, float* out, int64_t stride) {
    const int64_t columns = x.columns, scales_stride = columns / kBlock;
    int64_t c = 0;
    for (; c + 1 < x.inputs; c += 2)
        tile<Rows, 2>(panel, first, vectors, x.values + c * columns + from, x.scales + c * scales_stride + from / kBlock,
                      columns, out + c * stride, stride);
    if (c < x.inputs)
        tile<Rows, 1>(panel, first, vectors, x.values + c * columns + from, x.scales + c * scales_stride + from / kBlock,
                      columns, out + c * stride, stride);
}

// Multiply several inputs by the rows [begin, end), in fixed point. Weights are decoded once, a panel at a time.
static void multiply_many(const Weights& w, const Fixed& x, int64_t begin, int64_t end, float* out, int64_t stride) {
    const FixedTable table = fixed_table(w);
    const int64_t blocks = w.columns / kBlock;
    Panel panel;
    for (int64_t row = begin; row < end; row += kRows) {
        const int rows = static_cast<int>(std::min<int64_t>(kRows, end - row));
        for (int64_t c = 0; c < x.inputs; ++c) std::fill_n(out + c * stride + row, rows, 0.0f);
        for (int64_t from = 0; from < x.columns; from += kPanel) {
            const int64_t length = std::min<int64_t>(kPanel, w.columns - from);
            const int64_t vectors = std::min<int64_t>(kPanel, x.columns - from) / (2 * Lanes::width);
            for (int r = 0; r < rows; ++r) {
                const uint8_t* codes = w.codes + ((row + r) * w.columns + from) / 2;
                for (int64_t v = 0; v < vectors; ++v) {
                    const uint8_t* at = codes + v * Lanes::width;
                    Lanes::Bytes values[4];
                    decode(table, (v + 1) * 2 * Lanes::width <= length ? Lanes::load(at) : Lanes::load_block(at), values);
                    for (int q = 0; q < 4; ++q)
                        Lanes::store(panel.fixed[r] + v * 2 * Lanes::width + q * Lanes::width / 2, values[q]);
                }
                w.scales((row + r) * blocks + from / kBlock, length / kBlock, panel.scales[r]);
                std::fill(panel.scales[r] + length / kBlock, panel.scales[r] + vectors * 2 * Lanes::width / kBlock, 0.0f);
            }
            if (rows == kRows) {
                tiles<kRows>(panel, 0, vectors, x, from, out + row, stride);
            } else {
                for (int r = 0; r < rows; ++r) tiles<1>(panel, r, vectors, x, from, out + row + r, stride);
            }
        }
    }
}

// Multiply an input by the rows [begin, end), in float32 throughout.
static void multiply_exact(const Weights& w, const float* x, int64_t begin, int64_t end, float* out, float* buffer) {
    const Lanes::Table table = Lanes::words_table(w.levels);
    const int64_t blocks = w.columns / kBlock;
    for (int64_t row = begin; row < end; ++row) {
        const uint8_t* codes = w.codes + row * w.columns / 2;
        w.scales(row * blocks, blocks, buffer);
        Lanes::Floats total = Lanes::all(0);
        for (int64_t block = 0; block < blocks; ++block) {
            __builtin_prefetch(codes + block * kBlock / 2 + kAhead);
            Lanes::Floats sum[2] = {Lanes::all(0), Lanes::all(0)};
            for (int i = 0; i < kBlock; i += 2 * Lanes::words)
                for (int k = 0; k < 2; ++k) {
                    const int64_t at = block * kBlock + i + k * Lanes::words;
                    const Lanes::Floats levels = Lanes::look_up(table, Lanes::codes(codes + at / 2));
                    sum[k] = Lanes::fused(levels, Lanes::load_floats(x + at), sum[k]);
                }
            const Lanes::Floats scale = Lanes::all(buffer[block]);
            total = Lanes::fused(sum[0], scale, total);
            total = Lanes::fused(sum[1], scale, total);
        }
        out[row] = Lanes::sum(total);
    }
}

// Write the weights [begin, end) of the flattened matrix. ``begin`` and ``end`` are multiples of 64, except for an
// ``end`` that is the number of weights.
static void expand(const Weights& w, int64_t begin, int64_t end, float* out) {
    const Lanes::Table table = Lanes::words_table(w.levels);
    for (int64_t at = begin; at < end;) {
        const int64_t stop = std::min(end, (at / w.block + 1) * w.block);
        const float scale = w.scale(at / w.block);
        const Lanes::Floats scales = Lanes::all(scale);
        if (at % 2 == 0)
            for (; at + Lanes::words <= stop; at += Lanes::words)
                Lanes::store_floats(out + at - begin,
                                    Lanes::multiply(Lanes::look_up(table, Lanes::codes(w.codes + at / 2)), scales));
        for (; at < stop; ++at) out[at - begin] = w.levels[w.code(at)] * scale;
    }
}

// Quantise the blocks [begin, end) of the weights to codes and scales. Every block begins at a whole byte.
static void compress(const Rounding& rounding, const float* weights, int64_t count, int64_t block, int64_t begin,
                     int64_t end, uint8_t* codes, float* scales) {
    const Lanes::Table bounds = Lanes::words_table(rounding.bounds);
    const Lanes::Table names = Lanes::words_table(reinterpret_cast<const float*>(rounding.names));
    constexpr int step = Lanes::words;
    alignas(64) int32_t found[step];
    for (int64_t b = begin; b < end; ++b) {
        const int64_t from = b * block, length = std::min(block, count - from);
        const float* w = weights + from;
        uint8_t* to = codes + from / 2;
        int64_t i = 0;
        Lanes::Ints sizes = Lanes::zero();
        for (; i + step <= length; i += step) sizes = Lanes::larger(sizes, Lanes::load_floats(w + i));
        const float scale = largest_of(Lanes::largest(sizes), w + i, length - i);
        scales[b] = scale;
        if (!(std::isfinite(scale) && scale > 0)) {
            rounding.fill(to, length);
            continue;
        }
        const Lanes::Floats divisor = Lanes::all(scale);
        for (i = 0; i + step <= length; i += step) {
            const Lanes::Floats n = Lanes::divide(Lanes::load_floats(w + i), divisor);
            Lanes::Floats closest = Lanes::all(2);
            Lanes::Ints index = Lanes::zero();
            for (int jump = 8; jump; jump /= 2)
                index = Lanes::advance(index, jump, n, Lanes::look_up(bounds, Lanes::plus(index, jump - 1)), closest);
            if (Lanes::any_below(closest, kDoubt)) {
                for (int k = 0; k < step; ++k) found[k] = rounding.code(w[i + k], scale);
                for (int k = 0; k < step; k += 2)
                    to[(i + k) / 2] = static_cast<uint8_t>(found[k] << 4 | found[k + 1]);
            } else {
                Lanes::pack(to + i / 2, rounding.sorted ? index : Lanes::renamed(names, index));
            }
        }
        for (; i < length; i += 2) {
            const int second = i + 1 < length ? rounding.code(w[i + 1], scale) : 0;
            to[i / 2] = static_cast<uint8_t>(rounding.code(w[i], scale) << 4 | second);
        }
    }
}
