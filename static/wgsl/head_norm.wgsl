// RMS norm of each of the first `heads` heads of every row, in place: the keys of a text.
// Constants: HEAD_DIM (a multiple of 4), EPS, THREADS (64).

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    heads: u32,      // to be normalised
    row_heads: u32,  // in a row
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> values: array<vec4f>;  // [rows, row_heads, d]
@group(0) @binding(2) var<storage, read> gain: array<vec4f>;          // [d]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * (THREADS / LANES) + thread / LANES;
    let lane = thread % LANES;
    let here = item < sizes.rows * sizes.heads;
    let first = ((item / sizes.heads) * sizes.row_heads + item % sizes.heads) * HEAD4;
    var squares = 0.0;
    if (here) {
        for (var i = lane; i < HEAD4; i += LANES) {
            squares += dot(values[first + i], values[first + i]);
        }
    }
    let inverse = inverseSqrt(sum_of_lanes(squares, thread) / HEAD_DIM + EPS);
    if (here) {
        for (var i = lane; i < HEAD4; i += LANES) {
            values[first + i] *= inverse * gain[i];
        }
    }
}
