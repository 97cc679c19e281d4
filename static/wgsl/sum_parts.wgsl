// The sum of equal parts: output[i] = parts[0, i] + parts[1, i] + ... Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    parts: u32,
    count: u32,  // of numbers in a part, a multiple of 4
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;         // [parts, count]
@group(0) @binding(2) var<storage, read_write> output: array<vec4f>;  // [count]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    let count4 = sizes.count / 4;
    if (item >= count4) {
        return;
    }
    var total = vec4f();
    for (var part = 0u; part < sizes.parts; part++) {
        total += parts[part * count4 + item];
    }
    output[item] = total;
}
