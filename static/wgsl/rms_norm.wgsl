// x / rms(x) * (PLUS + gain) for each row. One workgroup a row.
//
// Constants: THREADS, EPS, and
//   PLUS  1 where the stored gain is a difference from 1, else 0
//   BIAS  add bias
//   RELU  then negative numbers become 0
//   ADD   add to the output

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    width: u32,  // a multiple of 4
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;         // [rows, width]
@group(0) @binding(2) var<storage, read> gain: array<vec4f>;          // [width]
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;          // [width]
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
    var squares = 0.0;
    for (var i = thread; i < width4; i += THREADS) {
        squares += dot(input[first + i], input[first + i]);
    }
    let inverse = inverseSqrt(sum_of_group(squares, thread) / f32(sizes.width) + EPS);
    for (var i = thread; i < width4; i += THREADS) {
        var value = input[first + i] * inverse * (PLUS + gain[i]);
        if (BIAS) {
            value += bias[i];
        }
        if (RELU) {
            value = max(value, vec4f());
        }
        if (ADD) {
            output[first + i] += value;
        } else {
            output[first + i] = value;
        }
    }
}
