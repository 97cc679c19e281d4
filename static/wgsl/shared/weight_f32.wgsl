// Weights stored as f32, read four at a time.

@group(0) @binding(2) var<storage, read> weight: array<vec4f>;

fn weight4(index: u32) -> vec4f {
    return weight[index];
}
