// First pass of linear attention: for each head and chunk of pixels the sums over them of
// value x relu(key)^T and, as a last row, of relu(key). An invocation has blocks of 4 x 4.
// Constants: HEAD_DIM (a multiple of 4), THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    pixels: u32,
    heads: u32,
    chunk: u32,  // pixels
}

const HEAD4 = HEAD_DIM / 4;

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;            // [pixels, heads, 3, d]
@group(0) @binding(2) var<storage, read_write> partial: array<vec4f>;  // [chunks, heads, d + 1, d]

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    let head = group.y;
    let first = group.x * sizes.chunk;
    let last = min(first + sizes.chunk, sizes.pixels);
    let rows = (group.x * sizes.heads + head) * (HEAD_DIM + 1);
    for (var block = thread; block < HEAD4 * HEAD4; block += THREADS) {
        let value4 = block / HEAD4;
        let key4 = block % HEAD4;
        var a = vec4f();
        var b = vec4f();
        var c = vec4f();
        var d = vec4f();
        var keys = vec4f();
        for (var pixel = first; pixel < last; pixel++) {
            let place = (pixel * sizes.heads + head) * 3 * HEAD4;
            let key = max(qkv[place + HEAD4 + key4], vec4f());
            let value = qkv[place + 2 * HEAD4 + value4];
            a += value.x * key;
            b += value.y * key;
            c += value.z * key;
            d += value.w * key;
            keys += key;
        }
        partial[(rows + value4 * 4) * HEAD4 + key4] = a;
        partial[(rows + value4 * 4 + 1) * HEAD4 + key4] = b;
        partial[(rows + value4 * 4 + 2) * HEAD4 + key4] = c;
        partial[(rows + value4 * 4 + 3) * HEAD4 + key4] = d;
        if (value4 == 0) {
            partial[(rows + HEAD_DIM) * HEAD4 + key4] = keys;
        }
    }
}
