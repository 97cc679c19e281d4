"""Over real data channels, between two connections of one page."""

BLOCK = 65516  # bytes of a frame less its head


def test_bytes_of_every_size_around_the_blocks_arrive_in_order(run):
    sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 8 * BLOCK + 3, 2**18, 2**18 + 1]
    result = run(
        """const [a, b] = linked(await connected());
        const sent = args[0].map((size, n) => noise(size, n + 1));
        sent.forEach((bytes, n) => { a.link.send({ type: 't', n }); a.link.sendBytes(bytes); });
        await until(() => b.heard.length === 2 * sent.length);
        await until(() => nothingLeft(a, b));
        return sent.every((bytes, n) => b.heard[2 * n].n === n && same(b.heard[2 * n + 1], bytes));
        """,
        sizes,
    )
    assert result is True


def test_64_mib_arrive_whole_and_questions_do_not_wait_for_them(run):
    slowest, whole, passed, right, most = run(
        """const big = noise(2 ** 26);
        const name = hex(await sha256(big));
        const [a, b] = linked(await connected(), { both: {
          provide: () => big, answer: ({ n }) => ({ n }) } });
        let done = false;
        const start = performance.now();
        const fetching = a.link.fetchBlob(name);
        fetching.finally(() => { done = true; });
        let [slowest, passed, most] = [0, 0, 0];
        while (!done) {
          const began = performance.now();
          await b.link.request({ n: passed });
          slowest = Math.max(slowest, performance.now() - began);
          most = Math.max(most, a.link.unfinished.heldBytes);
          passed += 1;
          await sleep(20);
        }
        const whole = performance.now() - start;
        const right = hex(await sha256(await fetching)) === name;
        await until(() => nothingLeft(a, b));
        return [slowest, whole, passed, right, most];"""
    )
    assert right
    assert most == 2**26
    assert passed > 10
    assert slowest < whole / 2, "a question waited for a transfer"


def test_both_directions_at_once_and_several_blobs_beside_the_wire(run):
    result = run(
        """const blobs = new Map();
        for (let n = 1; n <= 5; n += 1) {
          const blob = noise(n * 300_000, n);
          blobs.set(hex(await sha256(blob)), blob);
        }
        const provide = (name) => blobs.get(name);
        const [a, b] = linked(await connected(), { both: { provide } });
        const pictures = [noise(2_000_000, 8), noise(1_000_000, 9)];
        a.link.sendBytes(pictures[0]);
        b.link.sendBytes(pictures[1]);
        const names = [...blobs.keys()];
        const got = await Promise.all(
          [a, b].flatMap(({ link }) => names.map((name) => link.fetchBlob(name))));
        await until(() => a.heard.length && b.heard.length);
        await until(() => nothingLeft(a, b));
        const right = got.every((bytes, n) => same(bytes, blobs.get(names[n % 5])));
        return [right, same(a.heard[0], pictures[1]), same(b.heard[0], pictures[0]),
                a.link.buffered + b.link.buffered];"""
    )
    assert result == [True, True, True, 0]


def test_how_fast_bytes_come_is_measured_while_there_are_more_to_come(run):
    """From the first block on, over all that came; what is short or comes at once tells nothing."""
    result = run(
        """const told = [];
        for (const [sizes, frameMs] of [[[5], 100], [[3], 100], [[9], 0], [[6, 6], 100]]) {
          const clock = new Clock();
          const [one, two] = fakes();
          const measured = [];
          two.measured = (bytes, ms) => measured.push([bytes, ms]);
          one.through = (frame) => { clock.ms += frameMs; return [frame]; };
          const [a, b] = linked([one, two], { both: {
            clock, provide: (name) => blobs.get(name) } });
          const blobs = new Map();
          for (const blocks of sizes) {
            const blob = noise(blocks * args[0], blocks + blobs.size);
            blobs.set(hex(await sha256(blob)), blob);
          }
          await Promise.all([...blobs.keys()].map((name) => b.link.fetchBlob(name)));
          told.push(measured);
        }
        return told;""",
        BLOCK,
    )
    assert result[:3] == [[[4 * BLOCK, 400]], [], []]
    # Two at once take turns, and each knows of the other one's
    assert len(result[3]) == 2
    for nbytes, ms in result[3]:
        assert nbytes / BLOCK > 5
        assert ms / 100 - nbytes / BLOCK in (0, 1, 2)  # frames that begin and end the other one
