// Softmax, in the words of one vocabulary (Reals): included once for each instruction set, in a namespace of its own.

constexpr int kStep = kVectors * Reals::words;

// e^x as m 2^n with m about 1: the two are never multiplied where that could overflow. A NaN stays.
struct Power {
    Reals::Floats m, exponent;
};

static inline Power power(Reals::Floats x, float least) {
    x = Reals::larger(Reals::all(least), x);
    const Reals::Floats exponent = Reals::exponent(x);
    const Reals::Floats t = Reals::remainder(x, Reals::number(exponent));
    Reals::Floats p = Reals::all(kExp[4]);
    for (int i = 3; i >= 0; --i) p = Reals::fused(p, t, Reals::all(kExp[i]));
    return {Reals::fused(p, t, Reals::all(1)), exponent};
}

// e^x of x up to 0.
static inline Reals::Floats small_exponential(Reals::Floats x) {
    const Power of = power(x, Reals::kNone);
    return Reals::raised(of.m, of.exponent);
}

static inline Reals::Floats summed(const Reals::Floats v[kVectors]) {
    return Reals::add(Reals::add(v[0], v[1]), Reals::add(v[2], v[3]));
}

static inline Reals::Floats largest(const Reals::Floats v[kVectors]) {
    return Reals::larger(Reals::larger(v[0], v[1]), Reals::larger(v[2], v[3]));
}

// The largest of a vector, NaN aside.
static float largest_lane(Reals::Floats v) {
    float lanes[Reals::words], found = kLowest;
    Reals::store_floats(lanes, v);
    for (float one : lanes) found = std::max(found, one);
    return found;
}

// The rest of a row that fills no step, filled up with what has an exponential of 0.
struct Rest {
    alignas(64) float at[kStep];

    Rest(const float* x, int64_t count) {
        std::fill_n(at, kStep, -HUGE_VALF);
        std::memcpy(at, x, static_cast<size_t>(count) * sizeof *at);
    }
};

// A pass that only reads: ``pass(x, steps)`` sees each number of a row once, at most a block at a time.
template <typename Pass> HARNESS_TARGET
static inline void read(const Row& row, Pass& pass) {
    for (int64_t begin = 0; begin < row.columns; begin += kBlock) {
        const int64_t count = std::min(kBlock, row.columns - begin), whole = count / kStep * kStep;
        if (whole) pass.take(row.x + begin, whole / kStep);
        if (whole == count) continue;
        const Rest rest(row.x + begin + whole, count - whole);
        pass.take(rest.at, 1);
    }
}

// A pass that also writes: ``pass.take(x, y, steps)``.
template <typename Pass> HARNESS_TARGET
static inline void rewrite(const float* x, const Row& row, Pass& pass) {
    for (int64_t begin = 0; begin < row.columns; begin += kBlock) {
        const int64_t count = std::min(kBlock, row.columns - begin), whole = count / kStep * kStep;
        if (whole) pass.take(x + begin, row.y + begin, whole / kStep);
        if (whole == count) continue;
        Rest rest(x + begin + whole, count - whole);
        pass.take(rest.at, rest.at, 1);
        std::memcpy(row.y + begin + whole, rest.at, static_cast<size_t>(count - whole) * sizeof *row.y);
    }
}

struct Largest {
    Reals::Floats most[kVectors];

    Largest() {
        for (Reals::Floats& one : most) one = Reals::all(kLowest);
    }
    void take(const float* x, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep)
            for (int v = 0; v < kVectors; ++v)
                most[v] = Reals::larger(most[v], Reals::load_floats(x + v * Reals::words));
    }
    // The lowest float where all are -infinity: then no exponential is left, and 0 / 0 is the NaN that is wanted.
    float found() const { return largest_lane(largest(most)); }
};

// The sum of e^(x - most).
struct Summed {
    Reals::Floats most;
    double total = 0;

    void take(const float* x, int64_t steps) {
        Reals::Floats sums[kVectors];
        for (Reals::Floats& one : sums) one = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep)
            for (int v = 0; v < kVectors; ++v) {
                const Reals::Floats d = Reals::subtract(Reals::load_floats(x + v * Reals::words), most);
                sums[v] = Reals::add(sums[v], small_exponential(d));
            }
        total += static_cast<double>(Reals::sum(summed(sums)));
    }
};

// The same, and each e^(x - most) is kept.
struct Stored {
    Reals::Floats most;
    double total = 0;

    void take(const float* x, float* y, int64_t steps) {
        Reals::Floats sums[kVectors];
        for (Reals::Floats& one : sums) one = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep)
            for (int v = 0; v < kVectors; ++v) {
                const Reals::Floats d = Reals::subtract(Reals::load_floats(x + v * Reals::words), most);
                const Reals::Floats one = small_exponential(d);
                sums[v] = Reals::add(sums[v], one);
                Reals::store_floats(y + v * Reals::words, one);
            }
        total += static_cast<double>(Reals::sum(summed(sums)));
    }
};

struct Scale {
    Reals::Floats by;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += Reals::words, y += Reals::words)
            Reals::store_floats(y, Reals::multiply(Reals::load_floats(x), by));
    }
};

// e^(x - most) times a factor.
struct Recomputed {
    Reals::Floats most, by;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep)
            for (int v = 0; v < kVectors; ++v) {
                const Reals::Floats d = Reals::subtract(Reals::load_floats(x + v * Reals::words), most);
                Reals::store_floats(y + v * Reals::words, Reals::multiply(small_exponential(d), by));
            }
    }
};

// The sum of e^x as m 2^n: no largest number has to be known.
struct Extended {
    Scaled total{0, kLowest};
    bool far = false;

    void take(const float* x, int64_t steps) {
        Reals::Floats m = Reals::all(0), exponent = Reals::all(kLowest);
        for (const float* end = x + steps * kStep; x != end; x += kStep) {
            Power powers[kVectors];
            for (int v = 0; v < kVectors; ++v) powers[v] = power(Reals::load_floats(x + v * Reals::words), kLeast);
            const Reals::Floats exponents[kVectors] = {powers[0].exponent, powers[1].exponent, powers[2].exponent,
                                                       powers[3].exponent};
            const Reals::Floats most = Reals::larger(exponent, largest(exponents)), number = Reals::number(most);
            Reals::Floats parts[kVectors];
            for (int v = 0; v < kVectors; ++v) parts[v] = Reals::raised(powers[v].m, exponents[v], number);
            m = Reals::add(Reals::raised(m, exponent, number), summed(parts));
            exponent = most;
        }
        const float most = largest_lane(Reals::number(exponent));
        far |= most > kFar;
        if (far) return;
        const float sum = Reals::sum(Reals::raised(m, exponent, Reals::all(most)));
        total = plus(total, {static_cast<double>(sum), static_cast<double>(most)});
    }
};

// e^x over a sum m 2^n: ``by`` is 1 / m.
struct Unextended {
    Reals::Floats by, number;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep)
            for (int v = 0; v < kVectors; ++v) {
                const Power of = power(Reals::load_floats(x + v * Reals::words), kLeast);
                Reals::store_floats(y + v * Reals::words, Reals::raised(Reals::multiply(of.m, by), of.exponent, number));
            }
    }
};

// The largest so far, and the sum of e^(x - it), in each lane; both of the row in ``most`` and ``total``.
struct Running {
    float most = kLowest;
    double total = 0;

    void take(const float* x, int64_t steps) {
        Reals::Floats high = Reals::all(most), sum = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep) {
            Reals::Floats numbers[kVectors];
            for (int v = 0; v < kVectors; ++v) numbers[v] = Reals::load_floats(x + v * Reals::words);
            const Reals::Floats top = largest(numbers);
            if (Reals::any_above(top, high)) {
                const Reals::Floats next = Reals::larger(high, top);
                sum = Reals::multiply(sum, small_exponential(Reals::subtract(high, next)));
                high = next;
            }
            for (int v = 0; v < kVectors; ++v) numbers[v] = small_exponential(Reals::subtract(numbers[v], high));
            sum = Reals::add(sum, summed(numbers));
        }
        const float higher = std::max(most, largest_lane(high));
        sum = Reals::multiply(sum, small_exponential(Reals::subtract(high, Reals::all(higher))));
        total = total * std::exp(static_cast<double>(most) - higher) + static_cast<double>(Reals::sum(sum));
        most = higher;
    }
};

static void three_pass_recompute(const Row& row) {
    Largest largest;
    read(row, largest);
    Summed sum{Reals::all(largest.found())};
    read(row, sum);
    Recomputed result{sum.most, Reals::all(static_cast<float>(1 / sum.total))};
    rewrite(row.x, row, result);
}

static void three_pass_reload(const Row& row) {
    Largest largest;
    read(row, largest);
    Stored sum{Reals::all(largest.found())};
    rewrite(row.x, row, sum);
    Scale result{Reals::all(static_cast<float>(1 / sum.total))};
    rewrite(row.y, row, result);
}

// Two passes (arXiv:2001.04438). Where the largest number of a row is so far from 0 that its exponent, taken from it,
// leaves few digits, or is no number, the row is left to three.
static void two_pass(const Row& row) {
    Extended sum;
    read(row, sum);
    if (sum.far || !(sum.total.n > -kFar)) return three_pass_recompute(row);
    Unextended result{Reals::all(static_cast<float>(1 / sum.total.m)), Reals::all(static_cast<float>(sum.total.n))};
    rewrite(row.x, row, result);
}

// Two passes, the first of which finds the largest number and the sum together (arXiv:1805.02867, algorithm 3).
static void online(const Row& row) {
    Running sum;
    read(row, sum);
    Recomputed result{Reals::all(sum.most), Reals::all(static_cast<float>(1 / sum.total))};
    rewrite(row.x, row, result);
}
