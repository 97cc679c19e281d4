// Joins the chunks of group_norm_partial (Chan et al. 1979): mean and variance of each channel over
// all of them. What a band of rows leaves for the others.
// One workgroup a channel. Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
    channels: u32,
    chunk: u32,    // pixels
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> partial: array<f32>;        // [chunks, 2, channels]
@group(0) @binding(2) var<storage, read_write> moments: array<f32>;  // [2, channels]

fn pixels_of(chunk: u32) -> f32 {
    return f32(min(sizes.chunk, sizes.pixels - chunk * sizes.chunk));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    let channel = group.x;
    let chunks = (sizes.pixels + sizes.chunk - 1) / sizes.chunk;
    let count = f32(sizes.pixels);
    var total = 0.0;
    for (var chunk = thread; chunk < chunks; chunk += THREADS) {
        total += pixels_of(chunk) * partial[chunk * 2 * sizes.channels + channel];
    }
    let mean = sum_of_group(total, thread) / count;
    var squares = 0.0;
    for (var chunk = thread; chunk < chunks; chunk += THREADS) {
        let off = partial[chunk * 2 * sizes.channels + channel] - mean;
        squares += partial[(chunk * 2 + 1) * sizes.channels + channel]
            + pixels_of(chunk) * off * off;
    }
    let variance = sum_of_group(squares, thread) / count;
    if (thread == 0) {
        moments[channel] = mean;
        moments[sizes.channels + channel] = variance;
    }
}
