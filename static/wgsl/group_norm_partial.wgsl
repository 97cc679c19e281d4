// First pass of a group norm: mean and sum of squares about it, for each channel of each chunk of
// pixels. An invocation has four channels. Squares are summed about the chunk's first pixel, so that
// a large mean costs no digits. Of a band of rows only its own pixels count: the picture begins with
// others. Constants: THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
    skip: u32,      // pixels before the first of them
    channels: u32,  // a multiple of 4
    chunk: u32,     // pixels
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
// binding 1: picture [skip + pixels or more, channels]
@group(0) @binding(2) var<storage, read_write> partial: array<vec4f>;  // [chunks, 2, channels]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    let channels4 = sizes.channels / 4;
    let channel4 = group.y * THREADS + thread;
    let first = group.x * sizes.chunk;
    if (channel4 >= channels4 || first >= sizes.pixels) {
        return;
    }
    let last = min(first + sizes.chunk, sizes.pixels);
    let base = picture4((sizes.skip + first) * channels4 + channel4);
    var total = vec4f();
    var squares = vec4f();
    for (var pixel = first; pixel < last; pixel++) {
        let off = picture4((sizes.skip + pixel) * channels4 + channel4) - base;
        total += off;
        squares += off * off;
    }
    let count = f32(last - first);
    partial[group.x * 2 * channels4 + channel4] = base + total / count;
    partial[(group.x * 2 + 1) * channels4 + channel4] = squares - total * total / count;
}
