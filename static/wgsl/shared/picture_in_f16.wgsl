// The picture that an operation reads, stored as f16, four channels at a time.

@group(0) @binding(1) var<storage, read> picture: array<vec2u>;

fn picture4(index: u32) -> vec4f {
    let packed = picture[index];
    return vec4f(unpack2x16float(packed.x), unpack2x16float(packed.y));
}
