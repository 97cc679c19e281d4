// softmax(q k^T) v over the keys of a text, if there is one, then over the image's (or prompt's) own.
// Keys come in tiles and the softmax is kept running, so no matrix of scores is ever stored.
// SPLIT invocations share a query, each with its part of the features.
//
// Constants: HEAD_DIM (a multiple of 4 SPLIT), SPLIT, KEYS (a tile, multiple of 4), THREADS,
//   SCALE, SOFT_CAP (0: none, else scores become cap * tanh(score / cap)), TEXT.

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
const PART4 = HEAD4 / SPLIT;
const KEYS4 = KEYS / 4;
const LOWEST = -1e30;

var<workgroup> staged: array<vec4f, KEYS * HEAD4>;           // a tile of keys, then of values
var<workgroup> shares: array<vec4f, KEYS4 * THREADS>;        // of scores, when SPLIT > 1

struct Running {
    query: array<vec4f, PART4>,
    sum: array<vec4f, PART4>,
    highest: f32,
    weight: f32,
}

fn stage(is_text: bool, is_value: bool, batch: u32, kv_head: u32, first: u32, count: u32, thread: u32) {
    let row4 = select(sizes.heads + 2 * sizes.kv_heads, 2 * sizes.kv_heads, is_text) * HEAD4;
    let head = select(sizes.heads, 0, is_text) + select(0, sizes.kv_heads, is_value) + kv_head;
    let rows = select(sizes.length, sizes.text, is_text);
    for (var i = thread; i < KEYS * HEAD4; i += THREADS) {
        let key = first + i / HEAD4;
        var value = vec4f();
        if (key < count) {
            let place = (batch * rows + key) * row4 + head * HEAD4 + i % HEAD4;
            if (is_text) {
                value = text_kv[place];
            } else {
                value = qkv[place];
            }
        }
        staged[i] = value;
    }
}

fn attend(
    running: ptr<function, Running>,
    is_text: bool,
    batch: u32,
    kv_head: u32,
    count: u32,
    thread: u32,
) {
    let part = thread % SPLIT;
    for (var first = 0u; first < count; first += KEYS) {
        workgroupBarrier();
        stage(is_text, false, batch, kv_head, first, count, thread);
        workgroupBarrier();
        var scores: array<vec4f, KEYS4>;
        for (var j = 0u; j < KEYS4; j++) {
            var score = vec4f();
            for (var i = 0u; i < PART4; i++) {
                let q = (*running).query[i];
                let place = j * 4 * HEAD4 + i * SPLIT + part;
                score += vec4f(
                    dot(q, staged[place]),
                    dot(q, staged[place + HEAD4]),
                    dot(q, staged[place + 2 * HEAD4]),
                    dot(q, staged[place + 3 * HEAD4]),
                );
            }
            scores[j] = score;
            if (SPLIT > 1) {
                shares[j * THREADS + thread] = score;
            }
        }
        workgroupBarrier();
        stage(is_text, true, batch, kv_head, first, count, thread);
        var highest = vec4f((*running).highest);
        for (var j = 0u; j < KEYS4; j++) {
            if (SPLIT > 1) {
                var score = vec4f();
                for (var other = 0u; other < SPLIT; other++) {
                    score += shares[j * THREADS + thread - part + other];
                }
                scores[j] = score;
            }
            if (SOFT_CAP > 0.0) {
                let inner = clamp(scores[j] / SOFT_CAP, vec4f(-15.0), vec4f(15.0));
                scores[j] = SOFT_CAP * tanh(inner);
            }
            let key = vec4u(first + j * 4) + vec4u(0, 1, 2, 3);
            scores[j] = select(vec4f(LOWEST), scores[j], key < vec4u(count));
            highest = max(highest, scores[j]);
        }
        let top = max(max(highest.x, highest.y), max(highest.z, highest.w));
        let fade = exp((*running).highest - top);
        (*running).highest = top;
        (*running).weight *= fade;
        for (var i = 0u; i < PART4; i++) {
            (*running).sum[i] *= fade;
        }
        workgroupBarrier();
        for (var j = 0u; j < KEYS4; j++) {
            let weight = exp(scores[j] - top);
            (*running).weight += dot(weight, vec4f(1.0));
            for (var i = 0u; i < PART4; i++) {
                let place = j * 4 * HEAD4 + i * SPLIT + part;
                (*running).sum[i] += weight.x * staged[place] + weight.y * staged[place + HEAD4]
                    + weight.z * staged[place + 2 * HEAD4] + weight.w * staged[place + 3 * HEAD4];
            }
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
    let query = group.x * (THREADS / SPLIT) + thread / SPLIT;
    let part = thread % SPLIT;
    // Who has no query computes the last one's and stores nothing: all must reach the barriers
    let row = batch * sizes.length + min(query, sizes.length - 1);
    let source = (row * (sizes.heads + 2 * sizes.kv_heads) + head) * HEAD4;
    var running: Running;
    for (var i = 0u; i < PART4; i++) {
        running.query[i] = SCALE * qkv[source + i * SPLIT + part];
    }
    running.highest = LOWEST;
    if (TEXT) {
        attend(&running, true, batch, kv_head, text_lengths[batch], thread);
    }
    attend(&running, false, batch, kv_head, sizes.length, thread);
    if (query < sizes.length) {
        for (var i = 0u; i < PART4; i++) {
            let place = (row * sizes.heads + head) * HEAD4 + i * SPLIT + part;
            output[place] = running.sum[i] / running.weight;
        }
    }
}
