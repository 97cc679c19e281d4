// A layer norm without weights of its own, then (1 + scale) * x + shift, both of the current step.
// One workgroup a row. Constants: THREADS, EPS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    width: u32,         // a multiple of 4
    table_stride: u32,  // of the modulation table, numbers a step
    shift_offset: u32,
    scale_offset: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;         // [rows, width]
@group(0) @binding(2) var<storage, read> table: array<vec4f>;         // [steps, table_stride]
@group(0) @binding(3) var<storage, read> step: array<u32>;            // [1]
@group(0) @binding(4) var<storage, read_write> output: array<vec4f>;  // [rows, width]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = grid_index(group);
    if (row >= sizes.rows) {
        return;
    }
    let width4 = sizes.width / 4;
    let first = row * width4;
    var total = vec4f();
    for (var i = thread; i < width4; i += THREADS) {
        total += input[first + i];
    }
    let mean = sum_of_group(dot(total, vec4f(1.0)), thread) / f32(sizes.width);
    var squares = 0.0;
    for (var i = thread; i < width4; i += THREADS) {
        let off = input[first + i] - mean;
        squares += dot(off, off);
    }
    let variance = sum_of_group(squares, thread) / f32(sizes.width);
    let inverse = inverseSqrt(variance + EPS);
    let shift = (step[0] * sizes.table_stride + sizes.shift_offset) / 4;
    let scale = (step[0] * sizes.table_stride + sizes.scale_offset) / 4;
    for (var i = thread; i < width4; i += THREADS) {
        let normal = (input[first + i] - mean) * inverse;
        output[first + i] = normal * (1.0 + table[scale + i]) + table[shift + i];
    }
}
