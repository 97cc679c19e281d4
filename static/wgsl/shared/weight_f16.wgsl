// Weights stored as f16, two in a u32, read four at a time. Needs no feature of the device.

@group(0) @binding(2) var<storage, read> weight: array<vec2u>;

fn weight4(index: u32) -> vec4f {
    let packed = weight[index];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
