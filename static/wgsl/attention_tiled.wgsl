// What attention.wgsl computes, for heads of up to 64 features, in the register tiles of a matrix
// product: TILE_M queries a workgroup, 64 keys at a time, 8 x 8 scores and 8 x 8 sums an invocation.
// What is multiplied next is loaded before, so that the wait is filled.
//
// Constants: HEAD_DIM (a multiple of 4, at most 64), SCALE, SOFT_CAP (0: none, else scores become
//   cap * tanh(score / cap)), TEXT; those of tile.wgsl: TILE_M 64 at least, TILE_N 64, TILE_K 8 or
//   16, BUFFERS 1.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    length: u32,    // queries, and keys of their own
    text: u32,      // rows of the text's keys in each batch entry
    heads: u32,
    kv_heads: u32,  // heads / kv_heads queries' heads share a key's
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;      // [batch, length, heads + 2 kv_heads, d]
@group(0) @binding(2) var<storage, read> text_kv: array<vec4f>;  // [batch, text, 2 kv_heads, d]
@group(0) @binding(3) var<storage, read> text_lengths: array<u32>;    // [batch], at most text
@group(0) @binding(4) var<storage, read_write> output: array<vec4f>;  // [batch, length, heads, d]

const HEAD4 = HEAD_DIM / 4;
const LOWEST = -1e30;
const LOG2_E = 1.4426950408889634;  // exp2 is what hardware has: scores are in its unit
const QUERY_LOADS = K4;  // vectors of an invocation: THREADS is TILE_M, because TILE_N is 64
const KEY_LOADS = 64 * K4 / TILE_M;
const QUERY_SCALE = select(SCALE * LOG2_E, SCALE / max(SOFT_CAP, 1e-30), SOFT_CAP > 0.0);

struct Keys {  // where a tile's keys and values lie, in vectors of four
    is_text: bool,
    first: u32,   // the tile's first key
    count: u32,   // of keys, not only the tile's
    origin: u32,  // key 0
    row: u32,     // from key to key
    values: u32,  // from a key to its value
}

struct Queries {
    first: u32,   // the tile's first query
    origin: u32,  // query 0
    row: u32,     // from query to query
}

struct Fours {  // on the way from a buffer to the tile
    v0: vec4f, v1: vec4f, v2: vec4f, v3: vec4f,
}

struct Rows {  // a number for each of an invocation's eight rows
    upper: vec4f,
    lower: vec4f,
}

fn load_query(queries: Queries, slice4: u32, item: u32) -> vec4f {
    let k4 = slice4 + item % K4;
    let one = queries.first + item / K4;
    if (one >= sizes.length || k4 >= HEAD4) {
        return vec4f();
    }
    return QUERY_SCALE * qkv[queries.origin + one * queries.row + k4];
}

fn load_queries(queries: Queries, slice4: u32, thread: u32) -> Fours {
    var loaded: Fours;
    loaded.v0 = load_query(queries, slice4, thread);
    if (QUERY_LOADS > 1) {
        loaded.v1 = load_query(queries, slice4, thread + THREADS);
    }
    if (QUERY_LOADS > 2) {
        loaded.v2 = load_query(queries, slice4, thread + 2 * THREADS);
        loaded.v3 = load_query(queries, slice4, thread + 3 * THREADS);
    }
    return loaded;
}

fn place_query(item: u32, value: vec4f) {
    let k4 = item % K4;
    let one = item / K4;
    place_left(k4, left_place(one / 4, k4), one, value);
}

fn place_queries(loaded: Fours, thread: u32) {
    place_query(thread, loaded.v0);
    if (QUERY_LOADS > 1) {
        place_query(thread + THREADS, loaded.v1);
    }
    if (QUERY_LOADS > 2) {
        place_query(thread + 2 * THREADS, loaded.v2);
        place_query(thread + 3 * THREADS, loaded.v3);
    }
}

// Four features of a key or a value; part4: the first of them, from the key's own start
fn load_row(keys: Keys, one: u32, part4: u32, wanted: bool) -> vec4f {
    let key = keys.first + one;
    if (key >= keys.count || !wanted) {
        return vec4f();
    }
    let place = keys.origin + key * keys.row + part4;
    if (keys.is_text) {
        return text_kv[place];
    }
    return qkv[place];
}

fn load_key(keys: Keys, slice4: u32, item: u32) -> vec4f {
    let k4 = slice4 + item % K4;
    return load_row(keys, item / K4, k4, k4 < HEAD4);
}

fn load_keys(keys: Keys, slice4: u32, thread: u32) -> Fours {
    var loaded: Fours;
    loaded.v0 = load_key(keys, slice4, thread);
    if (KEY_LOADS > 1) {
        loaded.v1 = load_key(keys, slice4, thread + THREADS);
    }
    if (KEY_LOADS > 2) {
        loaded.v2 = load_key(keys, slice4, thread + 2 * THREADS);
        loaded.v3 = load_key(keys, slice4, thread + 3 * THREADS);
    }
    return loaded;
}

// Of the invocations' first four columns come keys 0 to 31, of their last four the others.
fn place_key(item: u32, value: vec4f) {
    let k4 = item % K4;
    let one = item / K4;
    place_right(k4, right_place(one / 4 % 8, one / 32, k4), one, value);
}

fn place_keys(loaded: Fours, thread: u32) {
    place_key(thread, loaded.v0);
    if (KEY_LOADS > 1) {
        place_key(thread + THREADS, loaded.v1);
    }
    if (KEY_LOADS > 2) {
        place_key(thread + 2 * THREADS, loaded.v2);
        place_key(thread + 3 * THREADS, loaded.v3);
    }
}

fn load_value(keys: Keys, first: u32, item: u32) -> vec4f {
    let d4 = item % 16;
    return load_row(keys, first + item / 16, keys.values + d4, d4 < HEAD4);
}

// TILE_K of the tile's values, beginning with its key `first`
fn load_values(keys: Keys, first: u32, thread: u32) -> Fours {
    var loaded: Fours;
    loaded.v0 = load_value(keys, first, thread);
    if (KEY_LOADS > 1) {
        loaded.v1 = load_value(keys, first, thread + THREADS);
    }
    if (KEY_LOADS > 2) {
        loaded.v2 = load_value(keys, first, thread + 2 * THREADS);
        loaded.v3 = load_value(keys, first, thread + 3 * THREADS);
    }
    return loaded;
}

// k is the key and a column a feature, 4 x to 4 x + 3 and from 32 on
fn place_value(item: u32, value: vec4f) {
    let d4 = item % 16;
    let one = item / 16;
    right[one / 4][one % 4][right_place(d4 % 8, d4 / 8, one / 4)] = four(value);
}

fn place_values(loaded: Fours, thread: u32) {
    place_value(thread, loaded.v0);
    if (KEY_LOADS > 1) {
        place_value(thread + THREADS, loaded.v1);
    }
    if (KEY_LOADS > 2) {
        place_value(thread + 2 * THREADS, loaded.v2);
        place_value(thread + 3 * THREADS, loaded.v3);
    }
}

// Weights of four keys: k is the key
fn stage_weights(place: vec2u, m0: vec4f, m1: vec4f, m2: vec4f, m3: vec4f,
                 m4: vec4f, m5: vec4f, m6: vec4f, m7: vec4f) {
    let slot = place.x % K4;
    let upper = left_place(2 * place.y, slot);
    let lower = left_place(2 * place.y + 1, slot);
    left[slot][0][upper] = four(vec4f(m0.x, m1.x, m2.x, m3.x));
    left[slot][0][lower] = four(vec4f(m4.x, m5.x, m6.x, m7.x));
    left[slot][1][upper] = four(vec4f(m0.y, m1.y, m2.y, m3.y));
    left[slot][1][lower] = four(vec4f(m4.y, m5.y, m6.y, m7.y));
    left[slot][2][upper] = four(vec4f(m0.z, m1.z, m2.z, m3.z));
    left[slot][2][lower] = four(vec4f(m4.z, m5.z, m6.z, m7.z));
    left[slot][3][upper] = four(vec4f(m0.w, m1.w, m2.w, m3.w));
    left[slot][3][lower] = four(vec4f(m4.w, m5.w, m6.w, m7.w));
}

// sums + weights x values, for the half of the keys whose weights are mi. values: TILE_K of the half's,
// loaded before. Returns those that the other half begins with.
fn mix_half(
    sums: ptr<function, Tile>, keys: Keys, half: u32, values: Fours, place: vec2u, thread: u32,
    m0: vec4f, m1: vec4f, m2: vec4f, m3: vec4f, m4: vec4f, m5: vec4f, m6: vec4f, m7: vec4f,
) -> Fours {
    var loaded = values;
    for (var part = 0u; part < 8 / K4; part++) {
        workgroupBarrier();
        if (place.x / K4 == part) {
            stage_weights(place, m0, m1, m2, m3, m4, m5, m6, m7);
        }
        place_values(loaded, thread);
        workgroupBarrier();
        if (half == 0 || part + 1 < 8 / K4) {
            loaded = load_values(keys, half * 32 + (part + 1) * TILE_K, thread);
        }
        multiply_tile(sums, 0, place);
    }
    return loaded;
}

// The 64 keys of a number: first come the text's
fn keys_of(number: u32, batch: u32, kv_head: u32, text_count: u32) -> Keys {
    let text_tiles = (text_count + 63) / 64;
    let values = sizes.kv_heads * HEAD4;
    if (number < text_tiles) {
        let origin = batch * sizes.text * 2 * values + kv_head * HEAD4;
        return Keys(true, number * 64, text_count, origin, 2 * values, values);
    }
    let row = (sizes.heads + 2 * sizes.kv_heads) * HEAD4;
    let origin = batch * sizes.length * row + (sizes.heads + kv_head) * HEAD4;
    return Keys(false, (number - text_tiles) * 64, sizes.length, origin, row, values);
}

fn score(product: vec4f, seen: vec4<bool>) -> vec4f {
    var value = product;
    if (SOFT_CAP > 0.0) {
        value = SOFT_CAP * LOG2_E * tanh(clamp(product, vec4f(-15.0), vec4f(15.0)));
    }
    return select(vec4f(LOWEST), value, seen);
}

fn score_all(tile: ptr<function, Tile>, a: vec4<bool>, b: vec4<bool>) {
    (*tile).a0 = score((*tile).a0, a);
    (*tile).b0 = score((*tile).b0, b);
    (*tile).a1 = score((*tile).a1, a);
    (*tile).b1 = score((*tile).b1, b);
    (*tile).a2 = score((*tile).a2, a);
    (*tile).b2 = score((*tile).b2, b);
    (*tile).a3 = score((*tile).a3, a);
    (*tile).b3 = score((*tile).b3, b);
    (*tile).a4 = score((*tile).a4, a);
    (*tile).b4 = score((*tile).b4, b);
    (*tile).a5 = score((*tile).a5, a);
    (*tile).b5 = score((*tile).b5, b);
    (*tile).a6 = score((*tile).a6, a);
    (*tile).b6 = score((*tile).b6, b);
    (*tile).a7 = score((*tile).a7, a);
    (*tile).b7 = score((*tile).b7, b);
}

fn highest_of(a: vec4f, b: vec4f) -> f32 {
    let both = max(a, b);
    return max(max(both.x, both.y), max(both.z, both.w));
}

fn total_of(a: vec4f, b: vec4f) -> f32 {
    return dot(a + b, vec4f(1.0));
}

fn highest_rows(tile: ptr<function, Tile>) -> Rows {
    return Rows(
        vec4f(
            highest_of((*tile).a0, (*tile).b0),
            highest_of((*tile).a1, (*tile).b1),
            highest_of((*tile).a2, (*tile).b2),
            highest_of((*tile).a3, (*tile).b3),
        ),
        vec4f(
            highest_of((*tile).a4, (*tile).b4),
            highest_of((*tile).a5, (*tile).b5),
            highest_of((*tile).a6, (*tile).b6),
            highest_of((*tile).a7, (*tile).b7),
        ),
    );
}

fn total_rows(tile: ptr<function, Tile>) -> Rows {
    return Rows(
        vec4f(
            total_of((*tile).a0, (*tile).b0),
            total_of((*tile).a1, (*tile).b1),
            total_of((*tile).a2, (*tile).b2),
            total_of((*tile).a3, (*tile).b3),
        ),
        vec4f(
            total_of((*tile).a4, (*tile).b4),
            total_of((*tile).a5, (*tile).b5),
            total_of((*tile).a6, (*tile).b6),
            total_of((*tile).a7, (*tile).b7),
        ),
    );
}

// From scores to weights
fn weigh_rows(tile: ptr<function, Tile>, highest: Rows) {
    (*tile).a0 = exp2((*tile).a0 - highest.upper.x);
    (*tile).b0 = exp2((*tile).b0 - highest.upper.x);
    (*tile).a1 = exp2((*tile).a1 - highest.upper.y);
    (*tile).b1 = exp2((*tile).b1 - highest.upper.y);
    (*tile).a2 = exp2((*tile).a2 - highest.upper.z);
    (*tile).b2 = exp2((*tile).b2 - highest.upper.z);
    (*tile).a3 = exp2((*tile).a3 - highest.upper.w);
    (*tile).b3 = exp2((*tile).b3 - highest.upper.w);
    (*tile).a4 = exp2((*tile).a4 - highest.lower.x);
    (*tile).b4 = exp2((*tile).b4 - highest.lower.x);
    (*tile).a5 = exp2((*tile).a5 - highest.lower.y);
    (*tile).b5 = exp2((*tile).b5 - highest.lower.y);
    (*tile).a6 = exp2((*tile).a6 - highest.lower.z);
    (*tile).b6 = exp2((*tile).b6 - highest.lower.z);
    (*tile).a7 = exp2((*tile).a7 - highest.lower.w);
    (*tile).b7 = exp2((*tile).b7 - highest.lower.w);
}

fn scale_rows(tile: ptr<function, Tile>, by: Rows) {
    (*tile).a0 *= by.upper.x;
    (*tile).b0 *= by.upper.x;
    (*tile).a1 *= by.upper.y;
    (*tile).b1 *= by.upper.y;
    (*tile).a2 *= by.upper.z;
    (*tile).b2 *= by.upper.z;
    (*tile).a3 *= by.upper.w;
    (*tile).b3 *= by.upper.w;
    (*tile).a4 *= by.lower.x;
    (*tile).b4 *= by.lower.x;
    (*tile).a5 *= by.lower.y;
    (*tile).b5 *= by.lower.y;
    (*tile).a6 *= by.lower.z;
    (*tile).b6 *= by.lower.z;
    (*tile).a7 *= by.lower.w;
    (*tile).b7 *= by.lower.w;
}

// What the eight invocations of the same rows have for these
fn stage_rows(rows: Rows, place: vec2u) {
    leave(place.x, place.y, 0, rows.upper);
    leave(place.x, place.y, 1, rows.lower);
}

fn staged_rows(x: u32, y: u32) -> Rows {
    return Rows(left_by(x, y, 0), left_by(x, y, 1));
}

fn store_sums(row: u32, head: u32, batch: u32, x: u32, a: vec4f, b: vec4f) {
    if (row < sizes.length) {
        let place = ((batch * sizes.length + row) * sizes.heads + head) * HEAD4 + x;
        if (x < HEAD4) {
            output[place] = a;
        }
        if (8 + x < HEAD4) {
            output[place + 8] = b;
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = id + sizes.first;
    let batch = group.z;
    let head = group.y;
    let kv_head = head / (sizes.heads / sizes.kv_heads);
    let place = place_of(thread);
    let row = (sizes.heads + 2 * sizes.kv_heads) * HEAD4;
    let queries = Queries(group.x * TILE_M, batch * sizes.length * row + head * HEAD4, row);
    var text_count = 0u;
    if (TEXT) {
        text_count = text_lengths[batch];
    }
    let text_tiles = (text_count + 63) / 64;
    let tiles = text_tiles + (sizes.length + 63) / 64;
    var sums: Tile;
    var highest = Rows(vec4f(LOWEST), vec4f(LOWEST));
    var weight: Rows;  // of this invocation's keys only
    for (var number = 0u; number < tiles; number++) {
        let keys = keys_of(number, batch, kv_head, text_count);
        var scores = Tile();  // naga would not begin anew without the value
        var values: Fours;
        var loaded_queries = load_queries(queries, 0, thread);
        var loaded_keys = load_keys(keys, 0, thread);
        for (var slice4 = 0u; slice4 < HEAD4; slice4 += K4) {
            workgroupBarrier();
            place_queries(loaded_queries, thread);
            place_keys(loaded_keys, thread);
            workgroupBarrier();
            if (slice4 + K4 < HEAD4) {
                loaded_queries = load_queries(queries, slice4 + K4, thread);
                loaded_keys = load_keys(keys, slice4 + K4, thread);
            } else {
                values = load_values(keys, 0, thread);
            }
            multiply_tile(&scores, 0, place);
        }
        let first = vec4u(keys.first + place.x * 4) + vec4u(0, 1, 2, 3);
        score_all(&scores, first < vec4u(keys.count), first + 32 < vec4u(keys.count));

        workgroupBarrier();
        stage_rows(highest_rows(&scores), place);
        workgroupBarrier();
        var top = highest;
        for (var x = 0u; x < 8; x++) {
            let rows = staged_rows(x, place.y);
            top.upper = max(top.upper, rows.upper);
            top.lower = max(top.lower, rows.lower);
        }
        let fade = Rows(exp2(highest.upper - top.upper), exp2(highest.lower - top.lower));
        highest = top;
        weigh_rows(&scores, top);
        let total = total_rows(&scores);
        weight.upper = weight.upper * fade.upper + total.upper;
        weight.lower = weight.lower * fade.lower + total.lower;
        scale_rows(&sums, fade);

        values = mix_half(
            &sums, keys, 0, values, place, thread, scores.a0, scores.a1, scores.a2, scores.a3,
            scores.a4, scores.a5, scores.a6, scores.a7,
        );
        mix_half(
            &sums, keys, 1, values, place, thread, scores.b0, scores.b1, scores.b2, scores.b3,
            scores.b4, scores.b5, scores.b6, scores.b7,
        );
    }
    workgroupBarrier();
    stage_rows(weight, place);
    workgroupBarrier();
    var all: Rows;
    for (var x = 0u; x < 8; x++) {
        let rows = staged_rows(x, place.y);
        all.upper += rows.upper;
        all.lower += rows.lower;
    }
    scale_rows(&sums, Rows(1.0 / all.upper, 1.0 / all.lower));
    let first_row = group.x * TILE_M + place.y * 8;
    store_sums(first_row, head, batch, place.x, sums.a0, sums.b0);
    store_sums(first_row + 1, head, batch, place.x, sums.a1, sums.b1);
    store_sums(first_row + 2, head, batch, place.x, sums.a2, sums.b2);
    store_sums(first_row + 3, head, batch, place.x, sums.a3, sums.b3);
    store_sums(first_row + 4, head, batch, place.x, sums.a4, sums.b4);
    store_sums(first_row + 5, head, batch, place.x, sums.a5, sums.b5);
    store_sums(first_row + 6, head, batch, place.x, sums.a6, sums.b6);
    store_sums(first_row + 7, head, batch, place.x, sums.a7, sums.b7);
}
