// The tiles of tile.wgsl multiplied in f16, which takes half the memory and on many devices half the
// time. Sums of 16 products are f16, those of all are f32. Needs the feature shader-f16.

alias Four = vec4<f16>;

struct Sums {  // as Tile
    a0: Four, b0: Four, a1: Four, b1: Four, a2: Four, b2: Four, a3: Four, b3: Four,
    a4: Four, b4: Four, a5: Four, b5: Four, a6: Four, b6: Four, a7: Four, b7: Four,
}

// What f16 cannot hold becomes its largest number, never infinite
fn four(value: vec4f) -> Four {
    return Four(clamp(value, vec4f(-65504.0), vec4f(65504.0)));
}

fn add_sums(tile: ptr<function, Tile>, sums: ptr<function, Sums>) {
    (*tile).a0 += vec4f((*sums).a0);
    (*tile).b0 += vec4f((*sums).b0);
    (*tile).a1 += vec4f((*sums).a1);
    (*tile).b1 += vec4f((*sums).b1);
    (*tile).a2 += vec4f((*sums).a2);
    (*tile).b2 += vec4f((*sums).b2);
    (*tile).a3 += vec4f((*sums).a3);
    (*tile).b3 += vec4f((*sums).b3);
    (*tile).a4 += vec4f((*sums).a4);
    (*tile).b4 += vec4f((*sums).b4);
    (*tile).a5 += vec4f((*sums).a5);
    (*tile).b5 += vec4f((*sums).b5);
    (*tile).a6 += vec4f((*sums).a6);
    (*tile).b6 += vec4f((*sums).b6);
    (*tile).a7 += vec4f((*sums).a7);
    (*tile).b7 += vec4f((*sums).b7);
}

fn multiply_tile(tile: ptr<function, Tile>, buffer: u32, place: vec2u) {
    for (var k4 = 0u; k4 < K4; k4 += 4) {
        var sums = Sums();
        multiply4(&sums, buffer, k4, place);
        if (K4 > 1) {
            multiply4(&sums, buffer, k4 + 1, place);
        }
        if (K4 > 2) {
            multiply4(&sums, buffer, k4 + 2, place);
            multiply4(&sums, buffer, k4 + 3, place);
        }
        add_sums(tile, &sums);
    }
}

var<workgroup> places: array<vec4f, 16 * THREADS_M>;

// What invocation (x, y) of a tile 64 columns wide leaves to others; half 0 or 1
fn leave(x: u32, y: u32, half: u32, value: vec4f) {
    places[(2 * x + half) * THREADS_M + (y ^ x)] = value;
}

fn left_by(x: u32, y: u32, half: u32) -> vec4f {
    return places[(2 * x + half) * THREADS_M + (y ^ x)];
}
