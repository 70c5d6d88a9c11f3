// Products with 8-bit integers, written with the vector operations of the struct Lanes. This file is included once for
// each instruction set, in a namespace of its own.

// Multiply ``Inputs`` inputs x (Inputs, columns) by ``Rows`` rows of integers to out (Inputs, of.rows), in float32: each
// integer is converted once for all inputs, and the row's scale multiplies the sum.
template <int Rows, int Inputs> HARNESS_TARGET
static void multiply_rows(const Product& of, const float* x, Group group, float* out) {
    const int64_t columns = of.columns, stride = group.apart * columns;
    const int8_t* codes = of.codes + group.row * columns;
    Lanes::Floats total[Rows][Inputs];
    for (auto& row : total)
        for (Lanes::Floats& lanes : row) lanes = Lanes::all(0);
    const auto add = [&](int64_t at) __attribute__((always_inline)) HARNESS_TARGET {
        Lanes::Floats from[Inputs];
        for (int c = 0; c < Inputs; ++c) from[c] = Lanes::load_floats(x + c * columns + at);
        for (int r = 0; r < Rows; ++r) {
            const Lanes::Floats weights = Lanes::from_bytes(codes + r * stride + at);
            for (int c = 0; c < Inputs; ++c) total[r][c] = Lanes::fused(weights, from[c], total[r][c]);
        }
    };
    int64_t at = 0;
    for (; at + kLine <= columns; at += kLine) {
        for (int r = 0; r < Rows; ++r) __builtin_prefetch(codes + r * stride + at + group.ahead);
        for (int k = 0; k < kLine; k += Lanes::words) add(at + k);
    }
    for (; at + Lanes::words <= columns; at += Lanes::words) add(at);
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < Inputs; ++c) {
            float sum = Lanes::sum(total[r][c]);
            for (int64_t k = at; k < columns; ++k) sum += static_cast<float>(codes[r * stride + k]) * x[c * columns + k];
            const int64_t row = group.row + r * group.apart;
            out[c * of.rows + row] = sum * of.scales[row];
        }
}

// Multiply up to kTogether inputs by the rows [begin, end).
template <int Inputs> HARNESS_TARGET
static void multiply_inputs(const Product& of, const float* x, int64_t begin, int64_t end, float* out) {
    constexpr int rows = Inputs == 1 ? 4 : 2;  // so many that AVX2 has registers for all sums
    const int64_t groups = (end - begin) / rows;
    for (int64_t i = 0; i < groups; ++i)
        multiply_rows<rows, Inputs>(of, x, of.far ? Group{begin + i, groups, kSoon} : Group{begin + i * rows, 1, kAhead}, out);
    for (int64_t row = begin + groups * rows; row < end; ++row)
        multiply_rows<1, Inputs>(of, x, {row, 1, kAhead}, out);
}

// Multiply all inputs by the rows [begin, end).
static void multiply(const Product& of, int64_t begin, int64_t end) {
    for (int64_t c = 0; c < of.inputs; c += kTogether) {
        const float* x = of.x + c * of.columns;
        float* out = of.out + c * of.rows;
        switch (std::min<int64_t>(kTogether, of.inputs - c)) {
            case 1: multiply_inputs<1>(of, x, begin, end, out); break;
            case 2: multiply_inputs<2>(of, x, begin, end, out); break;
            case 3: multiply_inputs<3>(of, x, begin, end, out); break;
            default: multiply_inputs<kTogether>(of, x, begin, end, out);
        }
    }
}
