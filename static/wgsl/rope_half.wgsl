// Rotation of the first `heads` heads of every row by the row's number: feature i of the first half
// of a head and feature i of its second make a pair. In place.
// Constants: HEAD_DIM (a multiple of 8), THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    heads: u32,      // to be rotated
    row_heads: u32,  // in a row
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> values: array<vec4f>;  // [rows, row_heads, d]
@group(0) @binding(2) var<storage, read> turns: array<vec4f>;         // [places, d / 2, cos sin]

const HALF4 = HEAD_DIM / 8;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item >= sizes.rows * sizes.heads * HALF4) {
        return;
    }
    let i = item % HALF4;
    let row = item / HALF4 / sizes.heads;
    let head = (item / HALF4) % sizes.heads;
    let place = (row * sizes.row_heads + head) * 2 * HALF4 + i;
    let low = turns[(row * HALF4 + i) * 2];
    let high = turns[(row * HALF4 + i) * 2 + 1];
    let cosine = vec4f(low.xz, high.xz);
    let sine = vec4f(low.yw, high.yw);
    let first = values[place];
    let second = values[place + HALF4];
    values[place] = first * cosine - second * sine;
    values[place + HALF4] = second * cosine + first * sine;
}
