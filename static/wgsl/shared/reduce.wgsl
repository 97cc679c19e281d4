// The sum of one number of every invocation, for all of them. Constants: THREADS, a power of two.

var<workgroup> reduced: array<f32, THREADS>;

fn sum_of_group(value: f32, thread: u32) -> f32 {
    workgroupBarrier();  // the sum before may still be read
    reduced[thread] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if (thread < half) {
            reduced[thread] += reduced[thread + half];
        }
        workgroupBarrier();
    }
    return reduced[0];
}
