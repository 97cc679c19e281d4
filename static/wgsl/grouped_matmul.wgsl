// output = input x weight^T within each group of WIDTH columns: a convolution of 1 x 1 in groups.
// An invocation has four rows of four columns. Constants: WIDTH (a multiple of 4), THREADS.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    columns: u32,  // a multiple of WIDTH
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;         // [rows, columns]
// binding 2: weight [columns, WIDTH]
@group(0) @binding(3) var<storage, read_write> output: array<vec4f>;  // [rows, columns]

fn weight_rows() -> u32 {
    return sizes.columns;
}

fn weight_columns() -> u32 {
    return WIDTH;
}

fn input4(row: u32, column4: u32) -> vec4f {
    return input[min(row, sizes.rows - 1) * (sizes.columns / 4) + column4];
}

fn store4(row: u32, column4: u32, value: vec4f) {
    if (row < sizes.rows) {
        output[row * (sizes.columns / 4) + column4] = value;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = grid_index(group) * THREADS + thread;
    let column4 = item % (sizes.columns / 4);
    let row = item / (sizes.columns / 4) * 4;
    if (row >= sizes.rows) {
        return;
    }
    let first4 = column4 * 4 / WIDTH * (WIDTH / 4);
    var a = vec4f();
    var b = vec4f();
    var c = vec4f();
    var d = vec4f();
    for (var k4 = 0u; k4 < WIDTH / 4; k4++) {
        let columns = mat4x4f(
            weight4(column4 * 4, k4 * 4),
            weight4(column4 * 4 + 1, k4 * 4),
            weight4(column4 * 4 + 2, k4 * 4),
            weight4(column4 * 4 + 3, k4 * 4),
        );
        a += input4(row, first4 + k4) * columns;
        b += input4(row + 1, first4 + k4) * columns;
        c += input4(row + 2, first4 + k4) * columns;
        d += input4(row + 3, first4 + k4) * columns;
    }
    store4(row, column4, a);
    store4(row + 1, column4, b);
    store4(row + 2, column4, c);
    store4(row + 3, column4, d);
}
