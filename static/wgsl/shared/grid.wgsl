// More workgroups than one dimension may have are spread over two: 65,535 in x, the rest in y.

const GRID_WIDTH = 65535u;

fn grid_index(id: vec3u) -> u32 {
    let group = id + sizes.first;
    return group.y * GRID_WIDTH + group.x;
}
