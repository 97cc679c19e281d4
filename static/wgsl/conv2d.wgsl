// A convolution of a picture, channels last, as a matrix product whose left side is gathered while
// it is read. Borders are zeros.
//
// Constants: those of tile.wgsl, and
//   KERNEL    1 or 3
//   UPSAMPLE  1, or 2: the picture is first doubled by repeating each pixel
//   NORM      the input first becomes x * norm[0, channel] + norm[1, channel] (see group_norm_*.wgsl)
//   SILU      and then x * sigmoid(x)
//   BIAS      add bias[channel]
//   ADD       add to the output
// channels_in and channels_out are multiples of 4.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,     // of the input
    columns: u32,
    channels_in: u32,
    channels_out: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// binding 1: picture [rows, columns, channels_in]
// binding 2: weight [channels_out, KERNEL, KERNEL, channels_in]
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;  // [channels_out]
@group(0) @binding(4) var<storage, read> norm: array<vec4f>;  // [2, channels_in]
// binding 5: output [pixels, channels_out]

fn left4(pixel: u32, k: u32) -> vec4f {
    let columns = sizes.columns * UPSAMPLE;
    let rows = sizes.rows * UPSAMPLE;
    if (pixel >= rows * columns || k >= KERNEL * KERNEL * sizes.channels_in) {
        return vec4f();
    }
    let tap = k / sizes.channels_in;
    let channel4 = (k % sizes.channels_in) / 4;
    // Left or above of the picture wraps to a large number, which the comparison refuses too
    let row = pixel / columns + tap / KERNEL - KERNEL / 2;
    let column = pixel % columns + tap % KERNEL - KERNEL / 2;
    if (row >= rows || column >= columns) {
        return vec4f();
    }
    let source = (row / UPSAMPLE) * sizes.columns + column / UPSAMPLE;
    let channels4 = sizes.channels_in / 4;
    var value = picture4(source * channels4 + channel4);
    if (NORM) {
        value = value * norm[channel4] + norm[channels4 + channel4];
    }
    if (SILU) {
        value = silu4(value);
    }
    return value;
}

fn weight_rows() -> u32 {
    return sizes.channels_out;
}

fn weight_columns() -> u32 {
    return KERNEL * KERNEL * sizes.channels_in;
}

fn right4(channel: u32, k: u32) -> vec4f {
    if (channel >= sizes.channels_out || k >= weight_columns()) {
        return vec4f();
    }
    return weight4(channel, k);
}

fn store4(pixel: u32, channel4: u32, product: vec4f) {
    let channels4 = sizes.channels_out / 4;
    if (channel4 >= channels4) {
        return;
    }
    let place = pixel * channels4 + channel4;
    var value = product;
    if (BIAS) {
        value += bias[channel4];
    }
    if (ADD) {
        value += output4(place);
    }
    write_output4(place, value);
}

fn store_row(pixel: u32, channel4: u32, a: vec4f, b: vec4f) {
    if (pixel < sizes.rows * sizes.columns * UPSAMPLE * UPSAMPLE) {
        store4(pixel, channel4, a);
        store4(pixel, channel4 + 1, b);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    // Pixels may be many: they spread over x and z
    let first_row = (group.z * GRID_WIDTH + group.x) * TILE_M;
    compute_tile(first_row, group.y * TILE_N, KERNEL * KERNEL * sizes.channels_in, thread);
}
