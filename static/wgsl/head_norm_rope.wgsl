// RMS norm of queries and keys of an image, head by head, then their rotation by the place in the
// image: adjacent pairs of features, the first AXIS features by the row, the others by the column.
// In place. Constants: HEAD_DIM, AXIS (multiples of 4), EPS, THREADS (64).

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,     // of all images of the batch
    heads: u32,
    length: u32,   // tokens of an image
    columns: u32,  // of the grid of tokens
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> qkv: array<vec4f>;        // [rows, 3, heads, d]
@group(0) @binding(2) var<storage, read> gain: array<vec4f>;             // [2, d]: queries, keys
@group(0) @binding(3) var<storage, read> row_turns: array<vec4f>;        // [places, AXIS / 2, cos sin]
@group(0) @binding(4) var<storage, read> column_turns: array<vec4f>;     // [places, (d - AXIS) / 2, 2]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * (THREADS / LANES) + thread / LANES;
    let lane = thread % LANES;
    let here = item < sizes.rows * 2 * sizes.heads;
    let row = item / (2 * sizes.heads);
    let head = item % (2 * sizes.heads);  // the queries' heads, then the keys'
    let first = (row * 3 * sizes.heads + head) * HEAD4;
    var squares = 0.0;
    if (here) {
        for (var i = lane; i < HEAD4; i += LANES) {
            squares += dot(qkv[first + i], qkv[first + i]);
        }
    }
    let inverse = inverseSqrt(sum_of_lanes(squares, thread) / HEAD_DIM + EPS);
    if (here) {
        let place = row % sizes.length;
        let gains = (head / sizes.heads) * HEAD4;
        for (var i = lane; i < HEAD4; i += LANES) {
            let x = qkv[first + i] * inverse * gain[gains + i];
            var turn: vec4f;
            if (i < AXIS / 4) {
                turn = row_turns[(place / sizes.columns) * (AXIS / 4) + i];
            } else {
                turn = column_turns[(place % sizes.columns) * (HEAD4 - AXIS / 4) + i - AXIS / 4];
            }
            qkv[first + i] = vec4f(
                x.x * turn.x - x.y * turn.y, x.y * turn.x + x.x * turn.y,
                x.z * turn.z - x.w * turn.w, x.w * turn.z + x.z * turn.w,
            );
        }
    }
}
