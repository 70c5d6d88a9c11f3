// Codes looked up as 16-bit integers by byte shuffles: the low and the high bytes apart, which are then interleaved.

struct FixedTable {
    Lanes::Bytes low, high;  // the low and the high bytes of the 16-bit integers

    explicit FixedTable(const int16_t fixed[16]) {
        uint8_t bytes[2][16];
        for (int i = 0; i < 16; ++i) {
            bytes[0][i] = static_cast<uint8_t>(fixed[i] & 255);
            bytes[1][i] = static_cast<uint8_t>(static_cast<uint16_t>(fixed[i]) >> 8);
        }
        low = Lanes::table(bytes[0]);
        high = Lanes::table(bytes[1]);
    }
};

// Return the position of element e, of the 2 * width weights of a vector of codes, after the codes have been looked up.
// The order changes because shuffles and unpacking work within groups of 16 bytes, and because the codes in the high
// halves of bytes are looked up before those in the low halves.
static inline int place_of(int e) {
    const int byte = e / 2, group = byte / 16, rest = byte % 16;
    return (e % 2 * 2 + rest / 8) * (Lanes::width / 2) + group * 8 + rest % 8;
}

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
