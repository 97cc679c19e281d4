// Fills a buffer with numbers in -scale..scale from a hash of their index (PCG's output function).

struct Sizes {
    words: u32,
    number: u32,  // of the buffer: another stream of numbers
    kind: u32,    // 0: f32, 1: f16, 2: the number `scale` as u32
    scale: f32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;

fn value(index: u32) -> f32 {
    let state = index * 747796405u + 2891336453u + sizes.number * 277803737u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (f32(((word >> 22u) ^ word) >> 8u) / 8388608.0 - 1.0) * sizes.scale;
}

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
    for (var i = id.x; i < sizes.words; i += groups.x * 256u) {
        switch (sizes.kind) {
            case 0u: { output[i] = bitcast<u32>(value(i)); }
            case 1u: { output[i] = pack2x16float(vec2f(value(2u * i), value(2u * i + 1u))); }
            default: { output[i] = u32(sizes.scale); }
        }
    }
}
