// What attention's shaders share. A group has 32 rows of one head, four threads a row, each with every fourth vector of
// four dimensions in registers; the other side goes through shared memory, 16 rows at a time.
layout(constant_id = 1) const uint HEAD_DIM = 64;

const uint ROWS = 32;
const uint STEP = 16;
const uint LANES = 4;
const uint THREADS = ROWS * LANES;
const uint VECTORS = HEAD_DIM / 4;
const uint PER_LANE = (VECTORS + LANES - 1) / LANES;
const uint PADDED = PER_LANE * LANES;
// Heads have at most 128 dimensions.
#define MOST_PER_LANE 8
#define MOST_PADDED 32

const float LOWEST = -3.402823466e38;

#define LANE (gl_LocalInvocationID.x % LANES)
#define EACH_VECTOR [[unroll]] for (uint i = 0; i < PER_LANE; i++)

struct Row {
    vec4 at[MOST_PER_LANE];
};

// Where a token's sequence starts and ends; both 0 for a token outside of every sequence.
uvec2 sequence_of(Words cu_seqlens, uint sequences, uint tokens, uint token) {
    uint low = 0;
    uint high = sequences + 1;
    while (low < high) {
        uint middle = (low + high) / 2;
        if (cu_seqlens.at[middle] <= token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (token >= tokens || low == 0 || low > sequences) return uvec2(0);
    return uvec2(cu_seqlens.at[low - 1], min(cu_seqlens.at[low], tokens));
}

// This thread's vectors of a row that starts at vector `from`; zeros outside.
Row load_row(Stored4 matrix, uint from, bool inside) {
    Row row;
    EACH_VECTOR {
        uint vector = i * LANES + LANE;
        row.at[i] = inside && vector < VECTORS ? GET4(matrix, from + vector) : vec4(0.0);
    }
    return row;
}

void store_row(Stored4 matrix, uint to, Row row, float factor) {
    EACH_VECTOR {
        uint vector = i * LANES + LANE;
        if (vector < VECTORS) PUT4(matrix, to + vector, row.at[i] * factor);
    }
}

Row zero_row() {
    Row row;
    EACH_VECTOR row.at[i] = vec4(0.0);
    return row;
}

shared vec4 first_tile[STEP * MOST_PADDED];
shared vec4 second_tile[STEP * MOST_PADDED];

// STEP rows into shared memory, `stride` vectors apart; zeros from token `end` on.
#define STAGE(tile, matrix, offset, stride, first_row, end)                                                  \
    for (uint n = gl_LocalInvocationID.x; n < STEP * PADDED; n += THREADS) {                                \
        uint row = (first_row) + n / PADDED;                                                                \
        uint vector = n % PADDED;                                                                           \
        tile[n] = row < (end) && vector < VECTORS ? GET4(matrix, (offset) + row * (stride) + vector) : vec4(0.0); \
    }

// A row in registers times row j of a tile, in each of the row's four threads.
float dot_first(Row row, uint j) {
    float sum = 0.0;
    EACH_VECTOR sum += dot(row.at[i], first_tile[j * PADDED + i * LANES + LANE]);
    return lanes_sum(sum, LANES);
}

float dot_second(Row row, uint j) {
    float sum = 0.0;
    EACH_VECTOR sum += dot(row.at[i], second_tile[j * PADDED + i * LANES + LANE]);
    return lanes_sum(sum, LANES);
}
