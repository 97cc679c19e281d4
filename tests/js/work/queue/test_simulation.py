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


SPREADS = ["from 1 to 16", "from 1 to 4", "of two kinds"]


@pytest.mark.parametrize(("images", "moves"), [(64, 3), (96, 2), (128, 2), (256, 2)])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_batch_takes_at_most_a_tenth_longer_than_it_must(run, spread, images, moves):
    """With one image each, alone the slowest would take up to 16 times as long as the fastest."""
    result = run(PLAY, 3, spread, images)
    assert result["done"]
    assert result["ratio"] <= 1.1, result
    assert result["moved"] <= moves * images
