// Codes looked up as 16-bit integers by one permutation of AVX-512 BW, which takes the low five bits of every 16-bit number.

struct FixedTable {
    __m512i levels;

    explicit FixedTable(const int16_t fixed[16]) {
        int16_t twice[32];  // so that the fifth bit, which is of another code, chooses nothing
        for (int i = 0; i < 32; ++i) twice[i] = fixed[i % 16];
        levels = _mm512_loadu_si512(twice);
    }
};

// Return the position of element e, of the 128 weights of a vector of codes, after the codes have been looked up: those
// of each of the four codes in 16 bits together.
static inline int place_of(int e) { return e % 4 * 32 + e / 4; }

// Look up the levels of a vector of codes, as four vectors of 16-bit integers.
static inline void decode(const FixedTable& table, __m512i codes, __m512i out[4]) {
    out[0] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), table.levels);
    out[1] = _mm512_permutexvar_epi16(codes, table.levels);
    out[2] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 12), table.levels);
    out[3] = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 8), table.levels);
}
