// output = after(input x weight^T), with all that may follow a matrix product in a transformer.
//
// Constants: those of tile.wgsl, and
//   BIAS    add bias[column]
//   SILU    then x * sigmoid(x)
//   PAIRED  columns come as four of a gate, four of a factor: gelu_tanh(gate) * factor, half as many
//   GATED   add to the output times gates[step, gate_offset + column]
//   ADD     add to the output
// columns and inner are multiples of 4 (with PAIRED columns of 8).

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    rows: u32,
    columns: u32,
    inner: u32,
    gate_stride: u32,
    gate_offset: u32,
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;         // [rows, inner]
// binding 2: weight [columns, inner]
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;          // [columns]
@group(0) @binding(4) var<storage, read> gates: array<vec4f>;         // [steps, gate_stride]
@group(0) @binding(5) var<storage, read> step: array<u32>;            // [1]
@group(0) @binding(6) var<storage, read_write> output: array<vec4f>;  // [rows, columns]

fn left4(row: u32, k: u32) -> vec4f {
    if (row >= sizes.rows || k >= sizes.inner) {
        return vec4f();
    }
    return input[(row * sizes.inner + k) / 4];
}

fn weight_rows() -> u32 {
    return sizes.columns;
}

fn weight_columns() -> u32 {
    return sizes.inner;
}

fn right4(column: u32, k: u32) -> vec4f {
    if (column >= sizes.columns || k >= sizes.inner) {
        return vec4f();
    }
    return weight4(column, k);
}

fn after_product(product: vec4f, column4: u32) -> vec4f {
    var value = product;
    if (BIAS) {
        value += bias[column4];
    }
    if (SILU) {
        value = silu4(value);
    }
    return value;
}

fn store4(row: u32, column4: u32, product: vec4f) {
    if (column4 * 4 >= sizes.columns) {
        return;
    }
    let value = after_product(product, column4);
    let place = row * (sizes.columns / 4) + column4;
    if (GATED) {
        let gate = gates[(step[0] * sizes.gate_stride + sizes.gate_offset) / 4 + column4];
        output[place] += gate * value;
    } else if (ADD) {
        output[place] += value;
    } else {
        output[place] = value;
    }
}

fn store_row(row: u32, column4: u32, a: vec4f, b: vec4f) {
    if (row >= sizes.rows) {
        return;
    }
    if (PAIRED) {
        if (column4 * 4 < sizes.columns) {
            let gate = after_product(a, column4);
            let factor = after_product(b, column4 + 1);
            output[row * (sizes.columns / 8) + column4 / 2] = gelu_tanh4(gate) * factor;
        }
        return;
    }
    store4(row, column4, a);
    store4(row, column4 + 1, b);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    compute_tile(group.y * TILE_M, group.x * TILE_N, sizes.inner, thread);
}
