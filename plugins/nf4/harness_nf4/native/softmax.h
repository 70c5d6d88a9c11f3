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
    HARNESS_INLINED void to_powers(float least, Group& exponents) {
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
    HARNESS_INLINED void to_exponentials() {
        Group exponents = *this;
        to_powers(Reals::kNone, exponents);
        for (int v = 0; v < kVectors; ++v) at[v] = Reals::raised(at[v], exponents.at[v]);
    }
    // Replace each m by m 2^(n - from); no n is larger than ``from``.
    HARNESS_INLINED void raise(const Group& exponents, Reals::Floats from) {
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

// Take the numbers [begin, end) of a row by a pass that only reads: ``pass.take(x, steps)`` for consecutive pieces of at
// most a block.
template <typename Pass> HARNESS_TARGET
static inline void read_part(const float* x, int64_t begin, int64_t end, Pass& pass) {
    for (; begin < end; begin += kBlock) {
        const int64_t count = std::min(kBlock, end - begin), whole = count / kStep * kStep;
        if (whole) pass.take(x + begin, whole / kStep);
        if (whole == count) continue;
        const Rest rest(x + begin + whole, count - whole);
        pass.take(rest.at, 1);
    }
}

// Take the numbers [begin, end) of a row by a pass that also writes: ``pass.take(x, y, steps)`` as above.
template <typename Pass> HARNESS_TARGET
static inline void rewrite_part(const float* x, float* y, int64_t begin, int64_t end, Pass& pass) {
    for (; begin < end; begin += kBlock) {
        const int64_t count = std::min(kBlock, end - begin), whole = count / kStep * kStep;
        if (whole) pass.take(x + begin, y + begin, whole / kStep);
        if (whole == count) continue;
        Rest rest(x + begin + whole, count - whole);
        pass.take(rest.at, rest.at, 1);
        std::memcpy(y + begin + whole, rest.at, static_cast<size_t>(count - whole) * sizeof *y);
    }
}

// Make a pass over a row: ``take(begin, end, pass)`` for each part of it, by a copy of the pass that knows nothing of
// other parts, and then join what the parts found, in order. Where a part begins follows from the length of the row
// alone, so that any number of threads computes the same bits.
template <typename Pass, typename Take> HARNESS_TARGET
static inline void by_parts(const Row& row, Pass& pass, const Take& take) {
    const int64_t length = part_length(row.columns), count = (row.columns + length - 1) / length;
    if (count == 1) return take(int64_t{0}, row.columns, pass);
    Found found[kParts];
    threads::share(count, 1, row.threads, [&](int64_t first, int64_t last) HARNESS_TARGET {
        for (int64_t part = first; part < last; ++part) {
            Pass alone = pass;
            take(part * length, std::min(row.columns, (part + 1) * length), alone);
            found[part] = alone.found();
        }
    });
    for (int64_t part = 0; part < count; ++part) pass.join(found[part]);
}

template <typename Pass> HARNESS_TARGET
static inline void read(const Row& row, Pass& pass) {
    by_parts(row, pass, [&](int64_t begin, int64_t end, Pass& alone) HARNESS_TARGET {
        read_part(row.x, begin, end, alone);
    });
}

template <typename Pass> HARNESS_TARGET
static inline void rewrite(const float* x, const Row& row, Pass& pass) {
    by_parts(row, pass, [&](int64_t begin, int64_t end, Pass& alone) HARNESS_TARGET {
        rewrite_part(x, row.y, begin, end, alone);
    });
}

struct Largest {
    Reals::Floats most;

    Largest() { most = Reals::all(kLowest); }
    void take(const float* x, int64_t steps) {
        for (const float* end = x + steps * kStep; x != end; x += kStep) most = Reals::larger(most, Group(x).largest());
    }
    // The lowest float where all numbers are -infinity: all exponentials are then 0, and the softmax is the NaN of 0 / 0,
    // as it should be.
    Found found() const { return {0, 0, largest_lane(most), false}; }
    void join(const Found& part) { most = Reals::larger(most, Reals::all(part.most)); }
    Reals::Floats all() const { return Reals::all(largest_lane(most)); }
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
    Found found() const { return {total, 0, 0, false}; }
    void join(const Found& part) { total += part.total; }
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
    Found found() const { return {total, 0, 0, false}; }
    void join(const Found& part) { total += part.total; }
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
    Found found() const { return {}; }
    void join(const Found&) {}
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
    Found found() const { return {}; }
    void join(const Found&) {}
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
    Found found() const { return {total.m, total.n, 0, far}; }
    void join(const Found& part) {
        far |= part.far;
        if (!far) total = plus(total, {part.total, part.exponent});
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
    Found found() const { return {}; }
    void join(const Found&) {}
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
        join({static_cast<double>(Reals::sum(sum)), 0, higher, false});
    }
    Found found() const { return {total, 0, most, false}; }
    void join(const Found& part) {
        const float higher = std::max(most, part.most);
        total = total * std::exp(static_cast<double>(most) - higher) +
                part.total * std::exp(static_cast<double>(part.most) - higher);
        most = higher;
    }
};

static void three_pass_recompute(const Row& row) {
    Largest largest;
    read(row, largest);
    Summed sum{largest.all()};
    read(row, sum);
    Recomputed result{sum.most, Reals::all(static_cast<float>(1 / sum.total))};
    rewrite(row.x, row, result);
}

static void three_pass_reload(const Row& row) {
    Largest largest;
    read(row, largest);
    Stored sum{largest.all()};
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
