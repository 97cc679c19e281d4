"""A batch on 64 uneven workers in simulated time, next to the least time that it could take."""

import pytest

PLAY = """
const { lots, play } = await module('./simulation.js');
const random = lots(args[0]);
const spread = { 'from 1 to 16': () => 16 ** random(), 'from 1 to 4': () => 4 ** random(),
                 'of two kinds': (_, number) => 1 + (number % 2) }[args[1]];
const factors = Array.from({ length: 64 }, spread);
return play({ factors, images: args[2], steps: 28, noise: 0.05, seed: args[0],
              seconds: { encode: 0.5, step: 1, decode: 1 } });
"""


@pytest.mark.parametrize("spread", ["from 1 to 16", "from 1 to 4", "of two kinds"])
def test_a_batch_of_256_takes_at_most_a_tenth_longer_than_it_must(run, spread):
    result = run(PLAY, 3, spread, 256)
    assert result["done"]
    assert result["ratio"] <= 1.1, result


def test_the_slowest_of_64_does_not_hold_up_a_batch_of_one_image_each(run):
    """Alone it would take 16 times as long as the fastest; the end is left to faster ones."""
    result = run(PLAY, 3, "from 1 to 16", 64)
    assert result["done"]
    assert result["moved"] >= 32
    assert result["ratio"] <= 1.4, result
