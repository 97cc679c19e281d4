// Some rows of a picture, in a picture of their own. Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    skip4: u32,    // vectors of four channels before the first row
    count4: u32,   // of them in the rows
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// binding 1: picture [skip4 + count4 or more]
// binding 5: output [count4]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    if (item < sizes.count4) {
        write_output4(item, picture4(sizes.skip4 + item));
    }
}
