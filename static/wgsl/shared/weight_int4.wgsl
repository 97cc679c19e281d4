// Weights stored as int4: four bits for each column, 8 more than the code, then the scales of
// weight_groups.wgsl.

@group(0) @binding(2) var<storage, read> weight: array<u32>;

const GROUP_WORDS = 4u;

// Columns k to k + 3 of a row; k is a multiple of 4.
fn weight4(row: u32, k: u32) -> vec4f {
    let word = weight[row * groups_of_row() * GROUP_WORDS + k / 8] >> (k % 8 * 4);
    let codes = (vec4u(word) >> vec4u(0, 4, 8, 12)) & vec4u(15);
    return weight_scale(row, k) * (vec4f(codes) - 8.0);
}
