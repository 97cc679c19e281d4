// Weights stored as f32. The operation gives weight_columns(), the length of a row.

@group(0) @binding(2) var<storage, read> weight: array<vec4f>;

// Columns k to k + 3 of a row; k is a multiple of 4.
fn weight4(row: u32, k: u32) -> vec4f {
    return weight[(row * weight_columns() + k) / 4];
}
