// A finished latent to what the decoder reads: latent / SCALING + SHIFT, channels last.
// Constants: SCALING, SHIFT, THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    channels: u32,
    pixels: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> latent: array<f32>;         // [channels, pixels]
@group(0) @binding(2) var<storage, read_write> output: array<f32>;   // [pixels, channels]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item < sizes.channels * sizes.pixels) {
        let pixel = item / sizes.channels;
        let channel = item % sizes.channels;
        output[item] = latent[channel * sizes.pixels + pixel] / SCALING + SHIFT;
    }
}
