// The tiles of tile.wgsl multiplied in f32.

alias Four = vec4f;
alias Sums = Tile;

fn four(value: vec4f) -> Four {
    return value;
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

// What invocation (x, y) of a tile 64 columns wide leaves to others where the left side was; half 0
// or 1. TILE_K is 8 at least.
fn leave(x: u32, y: u32, half: u32, value: vec4f) {
    let part = x / K4 * 2 + half;
    left[x % K4][part % 4][part / 4 * THREADS_M + (y ^ x)] = value;
}

fn left_by(x: u32, y: u32, half: u32) -> vec4f {
    let part = x / K4 * 2 + half;
    return left[x % K4][part % 4][part / 4 * THREADS_M + (y ^ x)];
}
