// The picture that an operation writes or adds to, stored as f16, four channels at a time.

@group(0) @binding(5) var<storage, read_write> output: array<vec2u>;

const LARGEST = 65504.0;

fn output4(index: u32) -> vec4f {
    let packed = output[index];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}

// What f16 cannot hold becomes the nearest that it can: devices differ in what else they make of it.
fn write_output4(index: u32, value: vec4f) {
    let held = clamp(value, vec4f(-LARGEST), vec4f(LARGEST));
    output[index] = vec2u(pack2x16float(held.xy), pack2x16float(held.zw));
}
