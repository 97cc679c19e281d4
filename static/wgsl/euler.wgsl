// One Euler step of the latent along the velocity. With two velocities, of the negative prompt and
// of the prompt, along the guided one. Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    count: u32,  // numbers in the latent
    batch: u32,  // velocities: 1 or 2
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read_write> latent: array<f32>;  // [count]
@group(0) @binding(2) var<storage, read> velocity: array<f32>;      // [batch, count]
@group(0) @binding(3) var<storage, read> strides: array<f32>;       // [steps], negative
@group(0) @binding(4) var<storage, read> guidance: array<f32>;      // [1]
@group(0) @binding(5) var<storage, read> step: array<u32>;          // [1]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item >= sizes.count) {
        return;
    }
    var towards = velocity[item];
    if (sizes.batch == 2) {
        towards += guidance[0] * (velocity[sizes.count + item] - towards);
    }
    latent[item] += strides[step[0]] * towards;
}
