// Second pass of a group norm: joins the chunks (Chan et al. 1979) and gives for every channel the
// factor and the summand that normalise it; conv2d applies them while it reads.
// One workgroup a group. Constants: THREADS, EPS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
    channels: u32,
    chunk: u32,
    groups: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> partial: array<f32>;      // [chunks, 2, channels]
@group(0) @binding(2) var<storage, read> gain: array<f32>;         // [channels]
@group(0) @binding(3) var<storage, read> bias: array<f32>;         // [channels]
@group(0) @binding(4) var<storage, read_write> norm: array<f32>;   // [2, channels]

fn pixels_of(chunk: u32) -> f32 {
    return f32(min(sizes.chunk, sizes.pixels - chunk * sizes.chunk));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    let width = sizes.channels / sizes.groups;
    let first = group.x * width;
    let chunks = (sizes.pixels + sizes.chunk - 1) / sizes.chunk;
    let count = f32(sizes.pixels) * f32(width);
    var total = 0.0;
    for (var i = thread; i < chunks * width; i += THREADS) {
        let chunk = i / width;
        total += pixels_of(chunk) * partial[chunk * 2 * sizes.channels + first + i % width];
    }
    let mean = sum_of_group(total, thread) / count;
    var squares = 0.0;
    for (var i = thread; i < chunks * width; i += THREADS) {
        let chunk = i / width;
        let channel = first + i % width;
        let off = partial[chunk * 2 * sizes.channels + channel] - mean;
        squares += partial[(chunk * 2 + 1) * sizes.channels + channel]
            + pixels_of(chunk) * off * off;
    }
    let inverse = inverseSqrt(sum_of_group(squares, thread) / count + EPS);
    for (var i = thread; i < width; i += THREADS) {
        let channel = first + i;
        let factor = gain[channel] * inverse;
        norm[channel] = factor;
        norm[sizes.channels + channel] = bias[channel] - mean * factor;
    }
}
