// A convolution of each channel by itself, channels last. Borders are zeros.
//
// Constants: THREADS, and
//   KERNEL  odd
//   BIAS    add bias[channel]
//   GATED   channels come as factors, then as many gates: factor * gate * sigmoid(gate), half as many

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    columns: u32,
    channels: u32,  // of the input, a multiple of 4 (with GATED of 8)
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;         // [rows, columns, channels]
@group(0) @binding(2) var<storage, read> taps: array<vec4f>;          // [KERNEL, KERNEL, channels]
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;          // [channels]
@group(0) @binding(4) var<storage, read_write> output: array<vec4f>;  // [pixels, channels or half]

fn convolved4(pixel: u32, channel4: u32) -> vec4f {
    let channels4 = sizes.channels / 4;
    var total = vec4f();
    if (BIAS) {
        total = bias[channel4];
    }
    for (var tap = 0u; tap < KERNEL * KERNEL; tap++) {
        // Left or above of the picture wraps to a large number, which the comparison refuses too
        let row = pixel / sizes.columns + tap / KERNEL - KERNEL / 2;
        let column = pixel % sizes.columns + tap % KERNEL - KERNEL / 2;
        if (row < sizes.rows && column < sizes.columns) {
            let source = row * sizes.columns + column;
            total += input[source * channels4 + channel4] * taps[tap * channels4 + channel4];
        }
    }
    return total;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    let width4 = select(sizes.channels, sizes.channels / 2, GATED) / 4;
    let pixel = item / width4;
    let channel4 = item % width4;
    if (pixel >= sizes.rows * sizes.columns) {
        return;
    }
    var value = convolved4(pixel, channel4);
    if (GATED) {
        value *= silu4(convolved4(pixel, channel4 + width4));
    }
    output[item] = value;
}
