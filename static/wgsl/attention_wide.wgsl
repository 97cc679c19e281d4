// What attention.wgsl computes, without a text, for heads of 256 or 512 features, in register tiles:
// 32 queries a workgroup, 64 keys at a time, 8 x 8 sums an invocation. For the scores an invocation
// has 4 x 4, and with 512 features two share these, each with half of the features.
//
// Constants: HEAD_DIM (256 or 512), SCALE, SOFT_CAP (0: none, else scores become
//   cap * tanh(score / cap)); those of tile.wgsl: TILE_M 32, TILE_N HEAD_DIM, TILE_K 8, BUFFERS 1.

struct Sizes {
    first: vec3u,  // workgroup: a long dispatch is run in parts
    length: u32,    // queries and keys
    text: u32,      // 0
    heads: u32,
    kv_heads: u32,  // heads / kv_heads queries' heads share a key's
}

@group(0) @binding(0) var<uniform> sizes: Sizes;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;      // [batch, length, heads + 2 kv_heads, d]
@group(0) @binding(4) var<storage, read_write> output: array<vec4f>;  // [batch, length, heads, d]

const HEAD4 = HEAD_DIM / 4;
const KEYS = 64;
const SLICE = 32;                   // features of queries and keys that are staged at a time
const SPLIT = THREADS / 128;        // invocations that share 4 x 4 scores
const SHARERS = THREADS / 32;       // invocations that share a query's softmax
const SHARE = KEYS / SHARERS;       // keys of each
const VALUES = 2048 / HEAD_DIM;     // keys whose values are staged at a time
const IN_ROW = HEAD4 / 16;          // features of 64 keys in a row of `large`
const LOWEST = -1e30;
const LOG2_E = 1.4426950408889634;  // exp2 is what hardware has: scores are in its unit
const QUERY_SCALE = select(SCALE * LOG2_E, SCALE / max(SOFT_CAP, 1e-30), SOFT_CAP > 0.0);

// [feature][query / 4], then [key][query / 4]; see turned
var<workgroup> small: array<array<vec4f, 8>, KEYS>;
// A slice of the keys, [feature][key / 4]; then the other half of scores; then what a softmax is
// made of; then [key][feature / 4] of the values
var<workgroup> large: array<array<vec4f, HEAD4>, VALUES>;

// Neighbours write rows of `small` and `large` that lie under each other: to different banks.
fn turned(place: u32, row4: u32) -> u32 {
    return place ^ (row4 % 8);
}

fn stage_queries(first: u32, origin: u32, row: u32, slice4: u32, thread: u32) {
    for (var number = 0u; number < 32 * SLICE / 4 / THREADS; number++) {
        let item = thread + number * THREADS;
        let k4 = item % (SLICE / 4);
        let one = item / (SLICE / 4);
        var value = vec4f();
        if (first + one < sizes.length) {
            value = QUERY_SCALE * qkv[origin + (first + one) * row + slice4 + k4];
        }
        let place = turned(one / 4, k4);
        small[k4 * 4][place][one % 4] = value.x;
        small[k4 * 4 + 1][place][one % 4] = value.y;
        small[k4 * 4 + 2][place][one % 4] = value.z;
        small[k4 * 4 + 3][place][one % 4] = value.w;
    }
}

fn stage_keys(first: u32, origin: u32, row: u32, slice4: u32, thread: u32) {
    for (var number = 0u; number < KEYS * SLICE / 4 / THREADS; number++) {
        let item = thread + number * THREADS;
        let k4 = item % (SLICE / 4);
        let one = item / (SLICE / 4);
        var value = vec4f();
        if (first + one < sizes.length) {
            value = qkv[origin + (first + one) * row + slice4 + k4];
        }
        let slot = k4 * 4 / IN_ROW;
        let place = k4 * 4 % IN_ROW * 16 + turned(one / 4, k4);
        large[slot][place][one % 4] = value.x;
        large[slot][place + 16][one % 4] = value.y;
        large[slot][place + 32][one % 4] = value.z;
        large[slot][place + 48][one % 4] = value.w;
    }
}

fn stage_values(first: u32, origin: u32, row: u32, thread: u32) {
    for (var number = 0u; number < VALUES * HEAD4 / THREADS; number++) {
        let item = thread + number * THREADS;
        let key = first + item / HEAD4;
        var value = vec4f();
        if (key < sizes.length) {
            value = qkv[origin + key * row + item % HEAD4];
        }
        large[item / HEAD4][item % HEAD4] = value;
    }
}

// What lies at [query] of row `slot` in `large`: a number for each query
fn shared_number(slot: u32, query: u32) -> f32 {
    return large[0][slot * 8 + query / 4][query % 4];
}

fn share_number(slot: u32, query: u32, value: f32) {
    large[0][slot * 8 + query / 4][query % 4] = value;
}

fn score(product: vec4f, seen: vec4<bool>) -> vec4f {
    var value = product;
    if (SOFT_CAP > 0.0) {
        value = SOFT_CAP * LOG2_E * tanh(clamp(product, vec4f(-15.0), vec4f(15.0)));
    }
    return select(vec4f(LOWEST), value, seen);
}

fn scale_rows(tile: ptr<function, Tile>, upper: vec4f, lower: vec4f) {
    (*tile).a0 *= upper.x;
    (*tile).b0 *= upper.x;
    (*tile).a1 *= upper.y;
    (*tile).b1 *= upper.y;
    (*tile).a2 *= upper.z;
    (*tile).b2 *= upper.z;
    (*tile).a3 *= upper.w;
    (*tile).b3 *= upper.w;
    (*tile).a4 *= lower.x;
    (*tile).b4 *= lower.x;
    (*tile).a5 *= lower.y;
    (*tile).b5 *= lower.y;
    (*tile).a6 *= lower.z;
    (*tile).b6 *= lower.z;
    (*tile).a7 *= lower.w;
    (*tile).b7 *= lower.w;
}

fn store_sums(row: u32, head: u32, batch: u32, x: u32, a: vec4f, b: vec4f) {
    if (row < sizes.length) {
        let place = ((batch * sizes.length + row) * sizes.heads + head) * HEAD4 + x;
        output[place] = a;
        output[place + THREADS_N] = b;
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
    let row4 = (sizes.heads + 2 * sizes.kv_heads) * HEAD4;
    let own = batch * sizes.length * row4;
    let keys_at = own + (sizes.heads + kv_head) * HEAD4;
    let values_at = keys_at + sizes.kv_heads * HEAD4;
    let place = place_of(thread);
    // Of the scores: four keys, four queries, and which of the features
    let x = thread % 16;
    let y = thread / 16 % 8;
    let part = thread / 128;
    // Of the softmax
    let query = thread % 32;
    let sharer = thread / 32;
    var sums: Tile;
    var highest = LOWEST;
    var weight = 0.0;  // of this invocation's keys only
    for (var first = 0u; first < sizes.length; first += KEYS) {
        var s0 = vec4f();
        var s1 = vec4f();
        var s2 = vec4f();
        var s3 = vec4f();
        for (var slice4 = 0u; slice4 < HEAD4; slice4 += SLICE / 4) {
            workgroupBarrier();
            stage_queries(group.x * 32, own + head * HEAD4, row4, slice4, thread);
            stage_keys(first, keys_at, row4, slice4, thread);
            workgroupBarrier();
            for (var i = 0u; i < SLICE / 4 / SPLIT; i++) {
                let k4 = part * (SLICE / 4 / SPLIT) + i;
                let slot = k4 * 4 / IN_ROW;
                let at = k4 * 4 % IN_ROW * 16 + turned(x, k4);
                for (var j = 0u; j < 4; j++) {
                    let q = small[k4 * 4 + j][turned(y, k4)];
                    let k = large[slot][at + j * 16];
                    s0 = fma(vec4f(q.x), k, s0);
                    s1 = fma(vec4f(q.y), k, s1);
                    s2 = fma(vec4f(q.z), k, s2);
                    s3 = fma(vec4f(q.w), k, s3);
                }
            }
        }
        workgroupBarrier();
        if (SPLIT > 1) {
            if (part == 1) {
                large[0][thread % 128] = s0;
                large[1][thread % 128] = s1;
                large[2][thread % 128] = s2;
                large[3][thread % 128] = s3;
            }
            workgroupBarrier();
        }
        if (part == 0) {
            if (SPLIT > 1) {
                s0 += large[0][thread];
                s1 += large[1][thread];
                s2 += large[2][thread];
                s3 += large[3][thread];
            }
            let seen = vec4u(first + x * 4) + vec4u(0, 1, 2, 3) < vec4u(sizes.length);
            s0 = score(s0, seen);
            s1 = score(s1, seen);
            s2 = score(s2, seen);
            s3 = score(s3, seen);
            small[x * 4][turned(y, x)] = vec4f(s0.x, s1.x, s2.x, s3.x);
            small[x * 4 + 1][turned(y, x)] = vec4f(s0.y, s1.y, s2.y, s3.y);
            small[x * 4 + 2][turned(y, x)] = vec4f(s0.z, s1.z, s2.z, s3.z);
            small[x * 4 + 3][turned(y, x)] = vec4f(s0.w, s1.w, s2.w, s3.w);
        }
        workgroupBarrier();
        var top = highest;
        for (var i = 0u; i < SHARE; i++) {
            let key = sharer * SHARE + i;
            top = max(top, small[key][turned(query / 4, key / 4)][query % 4]);
        }
        share_number(sharer, query, top);
        workgroupBarrier();
        for (var other = 0u; other < SHARERS; other++) {
            top = max(top, shared_number(other, query));
        }
        let fade = exp2(highest - top);
        highest = top;
        weight *= fade;
        for (var i = 0u; i < SHARE; i++) {
            let key = sharer * SHARE + i;
            let at = turned(query / 4, key / 4);
            let one = exp2(small[key][at][query % 4] - top);
            weight += one;
            small[key][at][query % 4] = one;
        }
        if (sharer == 0) {
            share_number(SHARERS, query, fade);
        }
        workgroupBarrier();
        let fades = SHARERS * 8 + 2 * place.y;
        scale_rows(&sums, large[0][fades], large[0][fades + 1]);
        for (var key = 0u; key < KEYS; key += VALUES) {
            workgroupBarrier();
            stage_values(first + key, values_at, row4, thread);
            workgroupBarrier();
            for (var i = 0u; i < VALUES; i += 4) {
                let upper = turned(2 * place.y, (key + i) / 4);
                let lower = turned(2 * place.y + 1, (key + i) / 4);
                for (var j = i; j < i + 4; j++) {
                    multiply(
                        &sums,
                        small[key + j][upper],
                        small[key + j][lower],
                        large[j][place.x],
                        large[j][THREADS_N + place.x],
                    );
                }
            }
        }
    }
    workgroupBarrier();
    share_number(sharer, query, weight);
    workgroupBarrier();
    var upper = vec4f();
    var lower = vec4f();
    for (var other = 0u; other < SHARERS; other++) {
        upper += large[0][other * 8 + 2 * place.y];
        lower += large[0][other * 8 + 2 * place.y + 1];
    }
    scale_rows(&sums, 1.0 / upper, 1.0 / lower);
    let row = group.x * 32 + place.y * 8;
    store_sums(row, head, batch, place.x, sums.a0, sums.b0);
    store_sums(row + 1, head, batch, place.x, sums.a1, sums.b1);
    store_sums(row + 2, head, batch, place.x, sums.a2, sums.b2);
    store_sums(row + 3, head, batch, place.x, sums.a3, sums.b3);
    store_sums(row + 4, head, batch, place.x, sums.a4, sums.b4);
    store_sums(row + 5, head, batch, place.x, sums.a5, sums.b5);
    store_sums(row + 6, head, batch, place.x, sums.a6, sums.b6);
    store_sums(row + 7, head, batch, place.x, sums.a7, sums.b7);
}
