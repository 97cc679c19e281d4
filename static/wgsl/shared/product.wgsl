// A matrix product over any inner size, tile by tile; see tile.wgsl.
//
// Constants: those of tile.wgsl. With BUFFERS 2 one part is filled while the other is read. An
//   invocation must load 1, 2 or 4 vectors a side, see LEFT_LOADS and RIGHT_LOADS.
// The operation gives left4(row, k) and right4(column, k): four numbers from k on, zeros outside;
// and store_row(row, column4, a, b): eight outputs of a row from column 4 * column4 on, of which
// some may lie outside.

const LEFT_LOADS = 8 * K4 / THREADS_N;
const RIGHT_LOADS = 8 * K4 / THREADS_M;

struct Loaded {  // on the way from a buffer to the tile
    left0: vec4f, left1: vec4f, left2: vec4f, left3: vec4f,
    right0: vec4f, right1: vec4f, right2: vec4f, right3: vec4f,
}

fn load_left(first_row: u32, first_k: u32, thread: u32, number: u32) -> vec4f {
    let item = thread + number * THREADS;
    return left4(first_row + item / K4, first_k + (item % K4) * 4);
}

fn load_right(first_column: u32, first_k: u32, thread: u32, number: u32) -> vec4f {
    let item = thread + number * THREADS;
    return right4(first_column + item / K4, first_k + (item % K4) * 4);
}

fn turn_left(buffer: u32, thread: u32, number: u32, value: vec4f) {
    let item = thread + number * THREADS;
    let k4 = item % K4;
    let row = item / K4;
    place_left(buffer * K4 + k4, left_place(row / 4, k4), row, value);
}

fn turn_right(buffer: u32, thread: u32, number: u32, value: vec4f) {
    let item = thread + number * THREADS;
    let k4 = item % K4;
    let column = item / K4;
    place_right(buffer * K4 + k4, right_place(column / 8, column / 4 % 2, k4), column, value);
}

fn load_tile(first_row: u32, first_column: u32, first_k: u32, thread: u32) -> Loaded {
    var loaded: Loaded;
    loaded.left0 = load_left(first_row, first_k, thread, 0);
    if (LEFT_LOADS > 1) {
        loaded.left1 = load_left(first_row, first_k, thread, 1);
    }
    if (LEFT_LOADS > 2) {
        loaded.left2 = load_left(first_row, first_k, thread, 2);
        loaded.left3 = load_left(first_row, first_k, thread, 3);
    }
    loaded.right0 = load_right(first_column, first_k, thread, 0);
    if (RIGHT_LOADS > 1) {
        loaded.right1 = load_right(first_column, first_k, thread, 1);
    }
    if (RIGHT_LOADS > 2) {
        loaded.right2 = load_right(first_column, first_k, thread, 2);
        loaded.right3 = load_right(first_column, first_k, thread, 3);
    }
    return loaded;
}

fn place_tile(buffer: u32, loaded: Loaded, thread: u32) {
    turn_left(buffer, thread, 0, loaded.left0);
    if (LEFT_LOADS > 1) {
        turn_left(buffer, thread, 1, loaded.left1);
    }
    if (LEFT_LOADS > 2) {
        turn_left(buffer, thread, 2, loaded.left2);
        turn_left(buffer, thread, 3, loaded.left3);
    }
    turn_right(buffer, thread, 0, loaded.right0);
    if (RIGHT_LOADS > 1) {
        turn_right(buffer, thread, 1, loaded.right1);
    }
    if (RIGHT_LOADS > 2) {
        turn_right(buffer, thread, 2, loaded.right2);
        turn_right(buffer, thread, 3, loaded.right3);
    }
}

// The outputs from first_row and first_column on; `inner` is the same for the whole workgroup.
// What comes next is loaded before the tile is multiplied, so that the wait is filled.
fn compute_tile(first_row: u32, first_column: u32, inner: u32, thread: u32) {
    var tile: Tile;
    let place = place_of(thread);
    var loaded = load_tile(first_row, first_column, 0, thread);
    if (BUFFERS == 1) {
        for (var k = 0u; k < inner; k += TILE_K) {
            place_tile(0, loaded, thread);
            workgroupBarrier();
            loaded = load_tile(first_row, first_column, k + TILE_K, thread);
            multiply_tile(&tile, 0, place);
            workgroupBarrier();
        }
    } else {
        place_tile(0, loaded, thread);
        workgroupBarrier();
        for (var k = 0u; k < inner; k += 2 * TILE_K) {
            loaded = load_tile(first_row, first_column, k + TILE_K, thread);
            multiply_tile(&tile, 0, place);
            place_tile(1, loaded, thread);
            workgroupBarrier();
            loaded = load_tile(first_row, first_column, k + 2 * TILE_K, thread);
            multiply_tile(&tile, 1, place);
            place_tile(0, loaded, thread);
            workgroupBarrier();
        }
    }
    let row = first_row + place.y * 8;
    let column4 = first_column / 4 + place.x * 2;
    store_row(row, column4, tile.a0, tile.b0);
    store_row(row + 1, column4, tile.a1, tile.b1);
    store_row(row + 2, column4, tile.a2, tile.b2);
    store_row(row + 3, column4, tile.a3, tile.b3);
    store_row(row + 4, column4, tile.a4, tile.b4);
    store_row(row + 5, column4, tile.a5, tile.b5);
    store_row(row + 6, column4, tile.a6, tile.b6);
    store_row(row + 7, column4, tile.a7, tile.b7);
}
