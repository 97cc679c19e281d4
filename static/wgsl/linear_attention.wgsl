// Last pass of linear attention: the mean of a head's values over all pixels, weighted by
// relu(key) . relu(query), from the sums of linear_attention_partial. An invocation has four numbers
// of a pixel's head. Constants: HEAD_DIM (a multiple of 4), EPS, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
    heads: u32,
    row_width: u32,   // of the output, a multiple of 4
    row_offset: u32,  // where in it the heads begin, a multiple of 4
}

const HEAD4 = HEAD_DIM / 4;

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;           // [pixels, heads, 3, d]
@group(0) @binding(2) var<storage, read> sums: array<vec4f>;          // [heads, d + 1, d]
@group(0) @binding(3) var<storage, read_write> output: array<vec4f>;  // [pixels, row_width]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    let width4 = sizes.heads * HEAD4;
    let pixel = item / width4;
    if (pixel >= sizes.pixels) {
        return;
    }
    let head = item % width4 / HEAD4;
    let value4 = item % HEAD4;
    let rows = head * (HEAD_DIM + 1);
    var total = vec4f();
    var weights = 0.0;
    for (var i = 0u; i < HEAD4; i++) {
        let query = max(qkv[(pixel * sizes.heads + head) * 3 * HEAD4 + i], vec4f());
        let values = mat4x4f(
            sums[(rows + value4 * 4) * HEAD4 + i],
            sums[(rows + value4 * 4 + 1) * HEAD4 + i],
            sums[(rows + value4 * 4 + 2) * HEAD4 + i],
            sums[(rows + value4 * 4 + 3) * HEAD4 + i],
        );
        total += query * values;
        weights += dot(query, sums[(rows + HEAD_DIM) * HEAD4 + i]);
    }
    output[(pixel * sizes.row_width + sizes.row_offset) / 4 + item % width4] = total / (weights + EPS);
}
