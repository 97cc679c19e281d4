// Weights stored as int8: a signed byte for each column, then the scales of weight_groups.wgsl.

@group(0) @binding(2) var<storage, read> weight: array<u32>;

const GROUP_WORDS = 8u;

// Columns k to k + 3 of a row; k is a multiple of 4.
fn weight4(row: u32, k: u32) -> vec4f {
    let word = bitcast<i32>(weight[row * groups_of_row() * GROUP_WORDS + k / 4]);
    let codes = (vec4i(word) << vec4u(24, 16, 8, 0)) >> vec4u(24);  // signs spread from the top
    return weight_scale(row, k) * vec4f(codes);
}
