// Products of a strip in the tile registers of AMX: one holds 16 rows and 32 columns of weights, another one these columns of
// 16 inputs, and an instruction multiplies both, with sums in float32. strips.h includes this. Needs AMX-TILE and AMX-BF16
// beside what tiles.h needs.

#if defined(HARNESS_EMULATED_AVX512)
#define HARNESS_AMX_TARGET
#else
#define HARNESS_AMX_TARGET \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vbmi,avx512vnni,avx512bf16,avx2,fma,amx-tile,amx-bf16")))
#endif

// Let the compiler finish what it writes to memory, and forget what it read: GCC tells it of no memory that the
// instructions of tiles use.
static inline void finish_memory() { asm volatile("" : : : "memory"); }

// What the tile registers hold, as LDTILECFG reads it.
struct TileShapes {
    alignas(64) uint8_t palette = 0;
    uint8_t start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// Tile registers of 16 lines, as long as it lives. What they were before comes back, as another library may count on it.
class Tiles {
  public:
    HARNESS_AMX_TARGET Tiles() {
        finish_memory();  // or zeros for ``before_`` could be written after what it is: GCC believes 8 bytes are stored
        _tile_storeconfig(&before_);
        finish_memory();
        TileShapes shapes;
        shapes.palette = 1;
        for (int i = 0; i < 8; ++i) {
            shapes.bytes[i] = sizeof(Line);
            shapes.rows[i] = kLanes;
        }
        finish_memory();
        _tile_loadconfig(&shapes);
    }
    HARNESS_AMX_TARGET ~Tiles() {
        finish_memory();
        _tile_loadconfig(&before_);
    }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;

  private:
    TileShapes before_;
};

// Products with a strip in tile registers: 64 rows share what is loaded of an input.
struct TileProducts {
    static constexpr int kRows = 4 * kLanes, kColumns = kMultiplied;  // of a strip
    const Tiles tiles;

    // As Dots::multiply.
    HARNESS_AMX_TARGET
    void multiply(const Line (*strip)[kRows], int64_t columns, const Line* x, int64_t stride, int64_t parts, Line* sums,
                  bool first) const {
        const int64_t steps = steps_of(columns);
        finish_memory();
        for (int64_t part = 0; part < parts; ++part, x += stride, sums += kRows) {
            if (first) {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            } else {
                _tile_loadd(0, sums, sizeof(Line));
                _tile_loadd(1, sums + kLanes, sizeof(Line));
                _tile_loadd(2, sums + 2 * kLanes, sizeof(Line));
                _tile_loadd(3, sums + 3 * kLanes, sizeof(Line));
            }
            for (int64_t step = 0; step < steps; ++step) {
                const Line* weights = strip[step];
                _tile_loadd(4, x + step * kLanes, sizeof(Line));
                _tile_loadd(5, weights, sizeof(Line));
                _tile_dpbf16ps(0, 5, 4);
                _tile_loadd(6, weights + kLanes, sizeof(Line));
                _tile_dpbf16ps(1, 6, 4);
                _tile_loadd(7, weights + 2 * kLanes, sizeof(Line));
                _tile_dpbf16ps(2, 7, 4);
                _tile_loadd(5, weights + 3 * kLanes, sizeof(Line));
                _tile_dpbf16ps(3, 5, 4);
            }
            _tile_stored(0, sums, sizeof(Line));
            _tile_stored(1, sums + kLanes, sizeof(Line));
            _tile_stored(2, sums + 2 * kLanes, sizeof(Line));
            _tile_stored(3, sums + 3 * kLanes, sizeof(Line));
        }
        finish_memory();
    }
};
