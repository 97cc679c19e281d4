// Channels of a pixel become FACTOR x FACTOR pixels, in the order (channel, row, column), after each
// channel was repeated REPEATS times. An invocation has four channels of the output.
// Constants: FACTOR (1 only repeats channels), REPEATS, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,  // of the input
    columns: u32,
    channels_in: u32,
    channels_out: u32,  // channels_in * REPEATS / FACTOR^2, a multiple of 4
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<f32>;           // [rows, columns, channels_in]
@group(0) @binding(2) var<storage, read_write> output: array<vec4f>;  // [pixels, channels_out]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    let pixel = item / (sizes.channels_out / 4);
    if (pixel >= sizes.rows * sizes.columns * FACTOR * FACTOR) {
        return;
    }
    let row = pixel / (sizes.columns * FACTOR);
    let column = pixel % (sizes.columns * FACTOR);
    let place = ((row / FACTOR) * sizes.columns + column / FACTOR) * sizes.channels_in;
    let part = (row % FACTOR) * FACTOR + column % FACTOR;
    let channel = item % (sizes.channels_out / 4) * 4;
    output[item] = vec4f(
        input[place + (channel * FACTOR * FACTOR + part) / REPEATS],
        input[place + ((channel + 1) * FACTOR * FACTOR + part) / REPEATS],
        input[place + ((channel + 2) * FACTOR * FACTOR + part) / REPEATS],
        input[place + ((channel + 3) * FACTOR * FACTOR + part) / REPEATS],
    );
}
