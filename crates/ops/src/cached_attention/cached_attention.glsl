// What the shaders of cached attention share: where a token's sequence is, what it sees, and how splits are added up.
layout(constant_id = 1) const uint HEAD_DIM = 64;

const uint SPLIT = 256;
const uint VECTORS = HEAD_DIM / 4;
const float LOWEST = -3.402823466e38;

// A token's sequence, or `sequences`, and the first token after it that is elsewhere.
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
    uint end = low <= sequences ? min(tokens, cu_seqlens.at[low]) : tokens;
    return uvec2(low == 0 || low > sequences ? sequences : low - 1, end);
}

// Positions that a token of a sequence sees.
uint seen_by(Words context_lens, Words cu_seqlens, uint positions, uint sequence, uint token) {
    uint before_end = cu_seqlens.at[sequence + 1] - token - 1;
    uint length = context_lens.at[sequence];
    return length > before_end ? min(length - before_end, positions) : 0;
}

// What the splits so far and one more are multiplied by.
vec2 shares(float so_far, float split) {
    float higher = max(so_far, split);
    return vec2(exp(so_far - higher), exp(split - higher));
}

// so_far keep + split take, in this order everywhere.
vec4 add_split(vec4 so_far, vec4 split, vec2 share) {
    precise vec4 taken = split * share.y;
    return fma(vec4(share.x), so_far, taken);
}

float add_split(float so_far, float split, vec2 share) {
    precise float taken = split * share.y;
    return fma(share.x, so_far, taken);
}
