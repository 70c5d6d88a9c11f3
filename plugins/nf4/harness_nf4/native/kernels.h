// The kernels, written with the vector operations of the struct Lanes. This file is included once for each instruction
// set, in a namespace of its own.

// Return the position of element e, of the 2 * width weights of a vector of codes, after the codes have been looked up.
// The order changes because shuffles and unpacking work within groups of 16 bytes, and because the codes in the high
// halves of bytes are looked up before those in the low halves.
static inline int place_of(int e) {
    const int byte = e / 2, group = byte / 16, rest = byte % 16;
    return (e % 2 * 2 + rest / 8) * (Lanes::width / 2) + group * 8 + rest % 8;
}

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
        for (int i = 0; i < kBlock; i += 16)  // even and odd elements go to two runs of eight positions
            for (int second = 0; second < 2; ++second) {
                int16_t* to = fixed + base + place_of(static_cast<int>(element - base) + i + second);
                for (int k = 0; k < 8; ++k) to[k] = rounded[i + 2 * k + second];
            }
    }
    return true;
}

struct FixedTable {
    Lanes::Bytes low, high;  // the low and the high bytes of the 16-bit integers

    explicit FixedTable(const float* levels) {
        uint8_t bytes[2][16];
        for (int i = 0; i < 16; ++i) {
            const int16_t at = static_cast<int16_t>(std::lrintf(levels[i] * kFixed));
            bytes[0][i] = static_cast<uint8_t>(at & 255);
            bytes[1][i] = static_cast<uint8_t>(static_cast<uint16_t>(at) >> 8);
        }
        low = Lanes::table(bytes[0]);
        high = Lanes::table(bytes[1]);
    }
};

// Look up the levels of a vector of codes, as four vectors of 16-bit integers.
static inline void decode(const FixedTable& table, Lanes::Bytes bytes, Lanes::Bytes out[4]) {
    const Lanes::Bytes first = Lanes::high_nibbles(bytes), second = Lanes::low_nibbles(bytes);
    const Lanes::Bytes first_low = Lanes::shuffle(table.low, first), first_high = Lanes::shuffle(table.high, first);
    const Lanes::Bytes second_low = Lanes::shuffle(table.low, second), second_high = Lanes::shuffle(table.high, second);
    out[0] = Lanes::unpack_low(first_low, first_high);
    out[1] = Lanes::unpack_high(first_low, first_high);
    out[2] = Lanes::unpack_low(second_low, second_high);
    out[3] = Lanes::unpack_high(second_low, second_high);
}

// Return the product of looked-up levels and their activations, before scales.
static inline Lanes::Floats vector_product(const Lanes::Bytes values[4], const int16_t* x) {
    Lanes::Ints sum[2];
    for (int q = 0; q < 2; ++q) {
        sum[q] = Lanes::multiply_add(values[2 * q], Lanes::load(x + q * Lanes::width));
        sum[q] = Lanes::multiply_add(values[2 * q + 1], Lanes::load(x + q * Lanes::width + Lanes::width / 2), sum[q]);
    }
    return Lanes::to_floats(Lanes::add(sum[0], sum[1]));
}

// Multiply ``Inputs`` inputs by the rows [begin, end), in fixed point: codes are looked up once for all of them.
// ``buffer`` has room for an input's scales, for every 64 columns and those that fill the last vector, for each input.
template <int Inputs> HARNESS_TARGET
static void multiply_inputs(const Weights& w, const Fixed& x, int64_t begin, int64_t end, float* out, float* buffer) {
    const FixedTable table(w.levels);
    const int64_t blocks = w.columns / kBlock, all_blocks = x.columns / kBlock;
    const int64_t vectors = w.columns / (2 * Lanes::width);
    constexpr int per_vector = 2 * Lanes::width / kBlock;
    constexpr int at_once = 64 / Lanes::width;  // vectors in a cache line
    std::fill_n(buffer, Inputs * all_blocks, 0.0f);
    for (int64_t row = begin; row < end; ++row) {
        const uint8_t* codes = w.codes + row * w.columns / 2;
        w.scales(row * blocks, blocks, buffer);
        for (int c = Inputs - 1; c >= 0; --c)  // the first last, whose room holds the scales of the weights
            for (int64_t i = 0; i < blocks; ++i) buffer[c * all_blocks + i] = buffer[i] * x.scales[c * all_blocks + i];
        Lanes::Floats total[at_once][Inputs];
        for (auto& of_vector : total)
            for (Lanes::Floats& lanes : of_vector) lanes = Lanes::all(0);
        const auto add = [&](int64_t v, Lanes::Bytes of_codes, Lanes::Floats* to) HARNESS_TARGET {
            Lanes::Bytes values[4];
            decode(table, of_codes, values);
            for (int c = 0; c < Inputs; ++c)
                to[c] = Lanes::fused(vector_product(values, x.values + c * x.columns + v * 2 * Lanes::width),
                                     Lanes::scales(buffer + c * all_blocks + v * per_vector), to[c]);
        };
        int64_t v = 0;
        for (; v + at_once <= vectors; v += at_once) {
            __builtin_prefetch(codes + v * Lanes::width + kAhead);
            for (int k = 0; k < at_once; ++k) add(v + k, Lanes::load(codes + (v + k) * Lanes::width), total[k]);
        }
        for (; v < x.columns / (2 * Lanes::width); ++v) {
            const uint8_t* at = codes + v * Lanes::width;
            add(v, v < vectors ? Lanes::load(at) : Lanes::load_block(at), total[0]);
        }
        for (int c = 0; c < Inputs; ++c) {
            float result = 0;
            for (const auto& of_vector : total) result += Lanes::sum(of_vector[c]);
            out[c * w.rows + row] = result;
        }
    }
}

static void multiply_few(const Weights& w, const Fixed& x, int64_t begin, int64_t end, float* out, float* buffer) {
    switch (x.inputs) {
        case 1: return multiply_inputs<1>(w, x, begin, end, out, buffer);
        case 2: return multiply_inputs<2>(w, x, begin, end, out, buffer);
        case 3: return multiply_inputs<3>(w, x, begin, end, out, buffer);
        default: return multiply_inputs<kFew>(w, x, begin, end, out, buffer);
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
    const FixedTable table(w.levels);
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
