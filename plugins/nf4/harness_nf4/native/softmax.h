// Softmax, written with the vector operations of the struct Reals. This file is included once for each instruction set,
// in a namespace of its own.

constexpr int kStep = kVectors * Reals::words;

// Vectors that are computed together: each step is done for all vectors before the next step, so that the processor
// does not wait for the result of a step.
struct Group {
    Reals::Floats at[kVectors];

    explicit Group(const float* x) {
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::load_floats(x + v * Reals::words);
    }
    explicit Group(Reals::Floats all) {
        for (Reals::Floats& v : at) v = all;
    }
    void store(float* y) const {
        for (int v = 0; v < kVectors; ++v) Reals::store_floats(y + v * Reals::words, at[v]);
    }
    void subtract(Reals::Floats amount) {
        for (Reals::Floats& v : at) v = Reals::subtract(v, amount);
    }
    void multiply(Reals::Floats factor) {
        for (Reals::Floats& v : at) v = Reals::multiply(v, factor);
    }
    Reals::Floats sum() const { return Reals::add(Reals::add(at[0], at[1]), Reals::add(at[2], at[3])); }
    Reals::Floats largest() const { return Reals::larger(Reals::larger(at[0], at[1]), Reals::larger(at[2], at[3])); }

    // Replace each x by the m, about 1, of e^x = m 2^n, and write n to ``exponents``. The two factors are kept apart
    // because their product could overflow. A NaN is kept.
    void to_powers(float least, Group& exponents) {
        for (Reals::Floats& v : at) v = Reals::larger(Reals::all(least), v);
        for (int v = 0; v < kVectors; ++v) exponents.at[v] = Reals::exponent(at[v]);
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::remainder(at[v], Reals::number(exponents.at[v]));
        Reals::Floats p[kVectors];
        for (Reals::Floats& v : p) v = Reals::all(kExp[4]);
        for (int i = 3; i >= 0; --i)
            for (int v = 0; v < kVectors; ++v) p[v] = Reals::fused(p[v], at[v], Reals::all(kExp[i]));
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::fused(p[v], at[v], Reals::all(1));
    }
    // Replace each x, none of them positive, by e^x.
    void to_exponentials() {
        Group exponents = *this;
        to_powers(Reals::kNone, exponents);
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::raised(at[v], exponents.at[v]);
    }
    // Replace each m by m 2^(n - from); no n is larger than ``from``.
    void raise(const Group& exponents, Reals::Floats from) {
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::raised(at[v], exponents.at[v], from);
    }
};

// Return the next group of a row, and prefetch later numbers: for passes that compute so long that memory would idle.
static inline Group fetched(const float* x) {
    for (int i = 0; i < kStep; i += 16) __builtin_prefetch(x + kAhead + i);
    return Group(x);
}

// Return e^x of a vector without positive numbers.
static inline Reals::Floats exponential(Reals::Floats x) {
    Group group(x);
    group.to_exponentials();
    return group.at[0];
}

// Return the largest number of a vector; a NaN is ignored.
static float largest_lane(Reals::Floats v) {
    float lanes[Reals::words], most = kLowest;
    Reals::store_floats(lanes, v);
    for (float lane : lanes) most = std::max(most, lane);
    return most;
}

// The rest of a row that is shorter than a step, padded with -infinity, whose exponential is 0.
struct Rest {
    alignas(64) float at[kStep];

    Rest(const float* x, int64_t count) {
        std::fill_n(at, kStep, -HUGE_VALF);
        std::memcpy(at, x, static_cast<size_t>(count) * sizeof *at);
    }
};

// Make a pass that only reads a row: call ``pass.take(x, steps)`` for consecutive pieces of at most a block.
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

// Make a pass that also writes a row: call ``pass.take(x, y, steps)`` for consecutive pieces of at most a block.
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
    Reals::Floats most;

    Largest() { most = Reals::all(kLowest); }
    void take(const float* x, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep) most = Reals::larger(most, Group(x).largest());
    }
    // Return the lowest float where all numbers are -infinity: all exponentials are then 0, and the softmax is the NaN
    // of 0 / 0, as it should be.
    float found() const { return largest_lane(most); }
};

// The sum of e^(x - most).
struct Summed {
    Reals::Floats most;
    double total = 0;

    void take(const float* x, int64_t steps) {
        Reals::Floats sum = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep) {
            Group group = fetched(x);
            group.subtract(most);
            group.to_exponentials();
            sum = Reals::add(sum, group.sum());
        }
        total += static_cast<double>(Reals::sum(sum));
    }
};

// The sum of e^(x - most), with each term stored.
struct Stored {
    Reals::Floats most;
    double total = 0;

    void take(const float* x, float* y, int64_t steps) {
        Reals::Floats sum = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep) {
            Group group = fetched(x);
            group.subtract(most);
            group.to_exponentials();
            sum = Reals::add(sum, group.sum());
            group.store(y);
        }
        total += static_cast<double>(Reals::sum(sum));
    }
};

struct Scale {
    Reals::Floats by;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep) {
            Group group(x);
            group.multiply(by);
            group.store(y);
        }
    }
};

// e^(x - most) times a factor.
struct Recomputed {
    Reals::Floats most, by;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep) {
            Group group = fetched(x);
            group.subtract(most);
            group.to_exponentials();
            group.multiply(by);
            group.store(y);
        }
    }
};

// The sum of e^x as m 2^n, which needs no largest number in advance.
struct Extended {
    Scaled total{0, kLowest};
    bool far = false;

    void take(const float* x, int64_t steps) {
        Reals::Floats m = Reals::all(0), exponent = Reals::all(kLowest);
        for (const float* end = x + steps * kStep; x != end; x += kStep) {
            Group group = fetched(x), exponents = group;
            group.to_powers(kLeast, exponents);
            const Reals::Floats most = Reals::larger(exponent, exponents.largest()), number = Reals::number(most);
            group.raise(exponents, number);
            m = Reals::add(Reals::raised(m, exponent, number), group.sum());
            exponent = most;
        }
        const float most = largest_lane(Reals::number(exponent));
        far |= most > kFar;
        if (far) return;
        const float sum = Reals::sum(Reals::raised(m, exponent, Reals::all(most)));
        total = plus(total, {static_cast<double>(sum), static_cast<double>(most)});
    }
};

// e^x divided by a sum m 2^n; ``by`` is 1 / m.
struct Unextended {
    Reals::Floats by, number;

    void take(const float* x, float* y, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep, y += kStep) {
            Group group = fetched(x), exponents = group;
            group.to_powers(kLeast, exponents);
            group.multiply(by);
            group.raise(exponents, number);
            group.store(y);
        }
    }
};

// The largest number so far, and the sum of e^(x - largest): within a piece for each lane, and for the row in ``most``
// and ``total``.
struct Running {
    float most = kLowest;
    double total = 0;

    void take(const float* x, int64_t steps) {
        Reals::Floats high = Reals::all(most), sum = Reals::all(0);
        for (const float* end = x + steps * kStep; x != end; x += kStep) {
            Group group = fetched(x);
            const Reals::Floats top = group.largest();
            if (Reals::any_above(top, high)) {
                const Reals::Floats next = Reals::larger(high, top);
                sum = Reals::multiply(sum, exponential(Reals::subtract(high, next)));
                high = next;
            }
            group.subtract(high);
            group.to_exponentials();
            sum = Reals::add(sum, group.sum());
        }
        const float higher = std::max(most, largest_lane(high));
        sum = Reals::multiply(sum, exponential(Reals::subtract(high, Reals::all(higher))));
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

// Two passes (arXiv:2001.04438). A row whose largest number is not finite, or so far from 0 that x - n ln 2 loses
// digits, is computed in three passes.
static void two_pass(const Row& row) {
    Extended sum;
    read(row, sum);
    if (sum.far || !(sum.total.n > -kFar)) return three_pass_recompute(row);
    Unextended result{Reals::all(static_cast<float>(1 / sum.total.m)), Reals::all(static_cast<float>(sum.total.n))};
    rewrite(row.x, row, result);
}

// Two passes; the first finds the largest number and the sum together (arXiv:1805.02867, algorithm 3).
static void online(const Row& row) {
    Running sum;
    read(row, sum);
    Recomputed result{Reals::all(sum.most), Reals::all(static_cast<float>(1 / sum.total))};
    rewrite(row.x, row, result);
}
