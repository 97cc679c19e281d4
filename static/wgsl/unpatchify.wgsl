// Tokens back to the shape of a latent, for every entry of the batch: the inverse of patchify.
// Constants: PATCH, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    channels: u32,
    rows: u32,
    columns: u32,
    batch: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> tokens: array<f32>;         // [batch, places, features]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;   // [batch, channels, rows, columns]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let count = sizes.channels * sizes.rows * sizes.columns;
    let item = grid_index(group) * THREADS + thread;
    if (item >= sizes.batch * count) {
        return;
    }
    let column = item % sizes.columns;
    let row = (item / sizes.columns) % sizes.rows;
    let channel = (item % count) / (sizes.rows * sizes.columns);
    let place = (row / PATCH) * (sizes.columns / PATCH) + column / PATCH;
    let feature = (channel * PATCH + row % PATCH) * PATCH + column % PATCH;
    let features = sizes.channels * PATCH * PATCH;
    output[item] = tokens[(item / count) * count + place * features + feature];
}
