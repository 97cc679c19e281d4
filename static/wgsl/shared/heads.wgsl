// Sixteen invocations, a lane each, share one head of one row. Constants: HEAD_DIM, EPS; THREADS: 64.

const LANES = 16u;
const HEAD4 = HEAD_DIM / 4;

var<workgroup> lane_sums: array<f32, THREADS>;

// The sum over a head's lanes
fn sum_of_lanes(value: f32, thread: u32) -> f32 {
    lane_sums[thread] = value;
    workgroupBarrier();
    var total = 0.0;
    let first = thread / LANES * LANES;
    for (var i = 0u; i < LANES; i++) {
        total += lane_sums[first + i];
    }
    return total;
}
