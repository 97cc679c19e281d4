// Rows of an embedding, as they are stored, to f32 times SCALE. Constants: SCALE, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    count4: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> output: array<vec4f>;  // [count4]
// binding 2: weight [1, count4 * 4]

fn weight_columns() -> u32 {
    return sizes.count4 * 4;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item < sizes.count4) {
        output[item] = SCALE * weight4(0, item * 4);
    }
}
