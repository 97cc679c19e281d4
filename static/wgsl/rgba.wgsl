// RGB in about -1..1 to bytes, four in a u32, opaque. Halves are rounded to even, as numpy does.
// Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> rgb: array<vec4f>;           // [pixels, 4], the last unused
@group(0) @binding(2) var<storage, read_write> output: array<u32>;    // [pixels], red lowest

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item < sizes.pixels) {
        let unit = clamp(rgb[item] / 2.0 + 0.5, vec4f(0.0), vec4f(1.0));
        let level = vec4u(round(unit * 255.0));
        output[item] = level.x | (level.y << 8) | (level.z << 16) | (255u << 24);
    }
}
