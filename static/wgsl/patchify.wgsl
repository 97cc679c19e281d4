// A latent to its tokens, the same for every entry of the batch. Features of a token in the order
// (channel, row, column). Constants: PATCH, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    channels: u32,
    rows: u32,
    columns: u32,
    batch: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> latent: array<f32>;         // [channels, rows, columns]
@group(0) @binding(2) var<storage, read_write> tokens: array<f32>;   // [batch, places, features]

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
    let features = sizes.channels * PATCH * PATCH;
    let feature = item % features;
    let place = (item % count) / features;
    let channel = feature / (PATCH * PATCH);
    let grid_columns = sizes.columns / PATCH;
    let row = (place / grid_columns) * PATCH + (feature / PATCH) % PATCH;
    let column = (place % grid_columns) * PATCH + feature % PATCH;
    tokens[item] = latent[(channel * sizes.rows + row) * sizes.columns + column];
}
