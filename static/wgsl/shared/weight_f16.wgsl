// Weights stored as f16, two in a u32; needs no feature of the device. The operation gives
// weight_columns(), the length of a row.

@group(0) @binding(2) var<storage, read> weight: array<vec2u>;

// Columns k to k + 3 of a row; k is a multiple of 4.
fn weight4(row: u32, k: u32) -> vec4f {
    let packed = weight[(row * weight_columns() + k) / 4];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
