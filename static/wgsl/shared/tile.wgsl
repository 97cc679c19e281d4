// Products of register tiles: a workgroup holds TILE_M x TILE_N outputs, an invocation 8 x 8 of them.
// Written out, since neither Tint nor naga unrolls loops.
//
// Constants: TILE_M, TILE_N, TILE_K (powers of two, TILE_M and TILE_N 32 at least, TILE_K 4 to 32),
//   BUFFERS: how many parts of TILE_K the workgroup's memory holds.

const THREADS_M = TILE_M / 8;
const THREADS_N = TILE_N / 8;
const THREADS = THREADS_M * THREADS_N;
const K4 = TILE_K / 4;
// Hardware that runs 32 invocations at once reads least when they form a block near a square
const BLOCK_N = select(8, THREADS_N, THREADS_N < 8);
const BLOCK_M = 32 / BLOCK_N;
const BLOCKS_N = THREADS_N / BLOCK_N;

// [buffer, k / 4][k % 4][place], a vector for four rows of the left side or four columns of the
// right; see left_place and right_place. Where an index is a constant it costs no instruction.
var<workgroup> left: array<array<array<vec4f, 2 * THREADS_M>, 4>, BUFFERS * K4>;
var<workgroup> right: array<array<array<vec4f, 2 * THREADS_N>, 4>, BUFFERS * K4>;

struct Tile {  // row i: columns 0-3 in ai, 4-7 in bi
    a0: vec4f, b0: vec4f, a1: vec4f, b1: vec4f, a2: vec4f, b2: vec4f, a3: vec4f, b3: vec4f,
    a4: vec4f, b4: vec4f, a5: vec4f, b5: vec4f, a6: vec4f, b6: vec4f, a7: vec4f, b7: vec4f,
}

// The eight rows and eight columns of an invocation: rows 8 * y to 8 * y + 7 of the tile.
fn place_of(thread: u32) -> vec2u {
    let block = thread / 32;
    let lane = thread % 32;
    return vec2u(
        (block % BLOCKS_N) * BLOCK_N + lane % BLOCK_N,
        (block / BLOCKS_N) * BLOCK_M + lane / BLOCK_N,
    );
}

// Where rows 4 * row4 to 4 * row4 + 3 lie. Neighbours load the same row, one four of k after the
// other, and turn them; the exclusive or has them write to different banks.
fn left_place(row4: u32, k4: u32) -> u32 {
    return row4 ^ ((k4 * max(8 / K4, 1)) % 8);
}

// Where the first (half 0) or last four columns of the invocations in column x lie: apart, so that
// neighbours read what lies together.
fn right_place(x: u32, half: u32, k4: u32) -> u32 {
    let other = ((k4 * max(4 / K4, 1)) ^ (4 * half)) % min(8, THREADS_N);
    return half * THREADS_N + (x ^ other);
}

// Four numbers along k of one row
fn place_left(slot: u32, place: u32, row: u32, value: vec4f) {
    left[slot][0][place][row % 4] = value.x;
    left[slot][1][place][row % 4] = value.y;
    left[slot][2][place][row % 4] = value.z;
    left[slot][3][place][row % 4] = value.w;
}

fn place_right(slot: u32, place: u32, column: u32, value: vec4f) {
    right[slot][0][place][column % 4] = value.x;
    right[slot][1][place][column % 4] = value.y;
    right[slot][2][place][column % 4] = value.z;
    right[slot][3][place][column % 4] = value.w;
}

fn multiply(tile: ptr<function, Tile>, upper: vec4f, lower: vec4f, a: vec4f, b: vec4f) {
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

// Four of k, those of k4 in a buffer
fn multiply4(tile: ptr<function, Tile>, buffer: u32, k4: u32, place: vec2u) {
    let slot = buffer * K4 + k4;
    let upper = left_place(2 * place.y, k4);
    let lower = left_place(2 * place.y + 1, k4);
    let a = right_place(place.x, 0, k4);
    let b = right_place(place.x, 1, k4);
    multiply(tile, left[slot][0][upper], left[slot][0][lower], right[slot][0][a], right[slot][0][b]);
    multiply(tile, left[slot][1][upper], left[slot][1][lower], right[slot][1][a], right[slot][1][b]);
    multiply(tile, left[slot][2][upper], left[slot][2][lower], right[slot][2][a], right[slot][2][b]);
    multiply(tile, left[slot][3][upper], left[slot][3][lower], right[slot][3][a], right[slot][3][b]);
}

fn multiply_tile(tile: ptr<function, Tile>, buffer: u32, place: vec2u) {
    if (K4 > 4) {  // too many instructions for a cache if they were written out
        for (var k4 = 0u; k4 < K4; k4 += 2) {
            multiply4(tile, buffer, k4, place);
            multiply4(tile, buffer, k4 + 1, place);
        }
        return;
    }
    multiply4(tile, buffer, 0, place);
    if (K4 > 1) {
        multiply4(tile, buffer, 1, place);
    }
    if (K4 > 2) {
        multiply4(tile, buffer, 2, place);
        multiply4(tile, buffer, 3, place);
    }
}
