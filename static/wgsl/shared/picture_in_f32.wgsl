// The picture that an operation reads, stored as f32, four channels at a time.

@group(0) @binding(1) var<storage, read> picture: array<vec4f>;

fn picture4(index: u32) -> vec4f {
    return picture[index];
}
