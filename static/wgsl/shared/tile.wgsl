// Products of register tiles: a workgroup holds TILE_M x TILE_N outputs, an invocation 8 x 8 of them.
// Written out, since neither Tint nor naga unrolls loops. In which numbers they are multiplied says
// multiply_f32.wgsl or multiply_f16.wgsl.
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
var<workgroup> left: array<array<array<Four, 2 * THREADS_M>, 4>, BUFFERS * K4>;
var<workgroup> right: array<array<array<Four, 2 * THREADS_N>, 4>, BUFFERS * K4>;

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
    let numbers = four(value);
    left[slot][0][place][row % 4] = numbers.x;
    left[slot][1][place][row % 4] = numbers.y;
    left[slot][2][place][row % 4] = numbers.z;
    left[slot][3][place][row % 4] = numbers.w;
}

fn place_right(slot: u32, place: u32, column: u32, value: vec4f) {
    let numbers = four(value);
    right[slot][0][place][column % 4] = numbers.x;
    right[slot][1][place][column % 4] = numbers.y;
    right[slot][2][place][column % 4] = numbers.z;
    right[slot][3][place][column % 4] = numbers.w;
}

fn multiply(sums: ptr<function, Sums>, upper: Four, lower: Four, a: Four, b: Four) {
    (*sums).a0 = fma(Four(upper.x), a, (*sums).a0);
    (*sums).b0 = fma(Four(upper.x), b, (*sums).b0);
    (*sums).a1 = fma(Four(upper.y), a, (*sums).a1);
    (*sums).b1 = fma(Four(upper.y), b, (*sums).b1);
    (*sums).a2 = fma(Four(upper.z), a, (*sums).a2);
    (*sums).b2 = fma(Four(upper.z), b, (*sums).b2);
    (*sums).a3 = fma(Four(upper.w), a, (*sums).a3);
    (*sums).b3 = fma(Four(upper.w), b, (*sums).b3);
    (*sums).a4 = fma(Four(lower.x), a, (*sums).a4);
    (*sums).b4 = fma(Four(lower.x), b, (*sums).b4);
    (*sums).a5 = fma(Four(lower.y), a, (*sums).a5);
    (*sums).b5 = fma(Four(lower.y), b, (*sums).b5);
    (*sums).a6 = fma(Four(lower.z), a, (*sums).a6);
    (*sums).b6 = fma(Four(lower.z), b, (*sums).b6);
    (*sums).a7 = fma(Four(lower.w), a, (*sums).a7);
    (*sums).b7 = fma(Four(lower.w), b, (*sums).b7);
}

// Four of k, those of k4 in a buffer
fn multiply4(sums: ptr<function, Sums>, buffer: u32, k4: u32, place: vec2u) {
    let slot = buffer * K4 + k4;
    let upper = left_place(2 * place.y, k4);
    let lower = left_place(2 * place.y + 1, k4);
    let a = right_place(place.x, 0, k4);
    let b = right_place(place.x, 1, k4);
    multiply(sums, left[slot][0][upper], left[slot][0][lower], right[slot][0][a], right[slot][0][b]);
    multiply(sums, left[slot][1][upper], left[slot][1][lower], right[slot][1][a], right[slot][1][b]);
    multiply(sums, left[slot][2][upper], left[slot][2][lower], right[slot][2][a], right[slot][2][b]);
    multiply(sums, left[slot][3][upper], left[slot][3][lower], right[slot][3][a], right[slot][3][b]);
}
