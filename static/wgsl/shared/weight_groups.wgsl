// The scales of int8 and int4 weights: one f16 for every 32 columns of a row, two in a u32, behind
// the codes of all rows, from the next multiple of 256 bytes on. See docs/packages.md.
//
// The operation gives weight_rows() and weight_columns(), the shape of its matrix; weight_int8 and
// weight_int4 give GROUP_WORDS, the u32s that the codes of a group fill.

fn groups_of_row() -> u32 {
    return (weight_columns() + 31) / 32;
}

// Of the group that column k of a row lies in.
fn weight_scale(row: u32, k: u32) -> f32 {
    let groups = groups_of_row();
    let scales = (weight_rows() * groups * GROUP_WORDS + 63) / 64 * 64;
    let group = row * groups + k / 32;
    let pair = unpack2x16float(weight[scales + group / 2]);
    return select(pair.x, pair.y, group % 2 == 1);
}
