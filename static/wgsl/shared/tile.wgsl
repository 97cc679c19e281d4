// The heart of every matrix product: a workgroup computes TILE_M x TILE_N outputs, an invocation
// 8 x 8 of them in registers. Written out, since neither Tint nor naga unrolls loops.
//
// Constants: TILE_M, TILE_N (multiples of 8), TILE_K (a multiple of 4).
// The operation gives left4(row, k) and right4(column, k): four numbers from k on, zeros outside.

const THREADS_N = TILE_N / 8;
const THREADS = (TILE_M / 8) * THREADS_N;
const ROWS4 = TILE_M / 4;
const COLUMNS4 = TILE_N / 4;
const K4 = TILE_K / 4;

var<workgroup> left: array<vec4f, TILE_K * ROWS4>;      // [k][row / 4]
var<workgroup> right: array<vec4f, TILE_K * COLUMNS4>;  // [k][column / 4], see column_slot

struct Tile {  // row i: columns 0-3 in ai, 4-7 in bi
    a0: vec4f, b0: vec4f, a1: vec4f, b1: vec4f, a2: vec4f, b2: vec4f, a3: vec4f, b3: vec4f,
    a4: vec4f, b4: vec4f, a5: vec4f, b5: vec4f, a6: vec4f, b6: vec4f, a7: vec4f, b7: vec4f,
}

// Neighbouring invocations read neighbouring slots, though their columns lie eight apart.
fn column_slot(column4: u32) -> u32 {
    return (column4 % 2) * THREADS_N + column4 / 2;
}

fn fill_tile(first_row: u32, first_column: u32, first_k: u32, thread: u32) {
    for (var block = thread; block < (ROWS4 + COLUMNS4) * K4; block += THREADS) {
        let k = (block % K4) * 4;
        let four = block / K4;
        if (four < ROWS4) {
            let row = first_row + four * 4;
            let m = transpose(mat4x4f(
                left4(row, first_k + k),
                left4(row + 1, first_k + k),
                left4(row + 2, first_k + k),
                left4(row + 3, first_k + k),
            ));
            left[k * ROWS4 + four] = m[0];
            left[(k + 1) * ROWS4 + four] = m[1];
            left[(k + 2) * ROWS4 + four] = m[2];
            left[(k + 3) * ROWS4 + four] = m[3];
        } else {
            let column = first_column + (four - ROWS4) * 4;
            let slot = column_slot(four - ROWS4);
            let m = transpose(mat4x4f(
                right4(column, first_k + k),
                right4(column + 1, first_k + k),
                right4(column + 2, first_k + k),
                right4(column + 3, first_k + k),
            ));
            right[k * COLUMNS4 + slot] = m[0];
            right[(k + 1) * COLUMNS4 + slot] = m[1];
            right[(k + 2) * COLUMNS4 + slot] = m[2];
            right[(k + 3) * COLUMNS4 + slot] = m[3];
        }
    }
}

fn multiply_tile(tile: ptr<function, Tile>, thread: u32) {
    let row = (thread / THREADS_N) * 2;
    let column = thread % THREADS_N;
    for (var k = 0u; k < TILE_K; k++) {
        let upper = left[k * ROWS4 + row];
        let lower = left[k * ROWS4 + row + 1];
        let a = right[k * COLUMNS4 + column];
        let b = right[k * COLUMNS4 + THREADS_N + column];
        (*tile).a0 = fma(vec4f(upper.x), a, (*tile).a0);
        (*tile).b0 = fma(vec4f(upper.x), b, (*tile).b0);
        (*tile).a1 = fma(vec4f(upper.y), a, (*tile).a1);
        (*tile).b1 = fma(vec4f(upper.y), b, (*tile).b1);
        (*tile).a2 = fma(vec4f(upper.z), a, (*tile).a2);
        (*tile).b2 = fma(vec4f(upper.z), b, (*tile).b2);
        (*tile).a3 = fma(vec4f(upper.w), a, (*tile).a3);
        (*tile).b3 = fma(vec4f(upper.w), b, (*tile).b3);
        (*tile).a4 = fma(vec4f(lower.x), a, (*tile).a4);
        (*tile).b4 = fma(vec4f(lower.x), b, (*tile).b4);
        (*tile).a5 = fma(vec4f(lower.y), a, (*tile).a5);
        (*tile).b5 = fma(vec4f(lower.y), b, (*tile).b5);
        (*tile).a6 = fma(vec4f(lower.z), a, (*tile).a6);
        (*tile).b6 = fma(vec4f(lower.z), b, (*tile).b6);
        (*tile).a7 = fma(vec4f(lower.w), a, (*tile).a7);
        (*tile).b7 = fma(vec4f(lower.w), b, (*tile).b7);
    }
}
