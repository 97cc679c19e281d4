// The picture that an operation writes or adds to, stored as f32, four channels at a time.

@group(0) @binding(5) var<storage, read_write> output: array<vec4f>;

fn output4(index: u32) -> vec4f {
    return output[index];
}

fn write_output4(index: u32, value: vec4f) {
    output[index] = value;
}
