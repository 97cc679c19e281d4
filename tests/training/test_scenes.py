"""Glyphs, scenes and their captions."""

import collections

import numpy as np
import torch

from diffusion.cleaning import clean_prompt
from diffusion.training.compose import Composer, plan
from diffusion.training.feed import TEXT_TOKENS
from diffusion.training.glyphs import Glyph, name_glyphs
from diffusion.training.scenes import (
    COLOURS,
    HIDDEN_BELOW,
    Placed,
    Scene,
    ScenePlanner,
    with_article,
)


def test_every_name_means_one_glyph_and_survives_cleaning(glyphs: list[Glyph]) -> None:
    names = [name for glyph in glyphs for name in glyph.names]
    assert len(glyphs) == 1361
    assert len(set(names)) == len(names)
    assert [name for name in names if clean_prompt(name) != name] == []


def test_a_shared_alias_stays_with_the_glyph_whose_first_name_it_is() -> None:
    found = {
        "☃": ("SNOWMAN", {"en": ":snowman:"}),
        "⛄": ("SNOWMAN WITHOUT SNOW", {"en": ":snowman_without_snow:", "alias": [":snowman:"]}),
    }
    assert [glyph.names for glyph in name_glyphs(found)] == [
        ("snowman",),
        ("snowman without snow",),
    ]


def test_captions_name_what_is_drawn_in_the_order_of_the_objects(planner: ScenePlanner) -> None:
    for _ in range(200):
        scene = planner.pair(plain=True)
        first, second = (planner.glyphs[placed.glyph].name for placed in scene.objects)
        assert scene.caption == (
            f"{with_article(first)} {scene.relation} {with_article(second)}"
            f" on {with_article(scene.colours[0])} background"
        )
        one, other = scene.objects
        match scene.relation:
            case "left of":
                assert one.x < other.x
            case "right of":
                assert one.x > other.x
            case "above":
                assert one.y < other.y
            case "below":
                assert one.y > other.y


def test_scenes_are_of_every_kind_and_stay_inside_the_picture(planner: ScenePlanner) -> None:
    kinds: collections.Counter[tuple[int, int]] = collections.Counter()
    for _ in range(2000):
        scene = planner.any_scene()
        kinds[len(scene.objects), len(scene.colours)] += 1
        for placed in scene.objects:
            assert placed.side / 2 <= placed.x + 0.05
            assert placed.x + placed.side / 2 <= 1.05
    assert set(kinds) == {(n, colours) for n in (1, 2, 3) for colours in (1, 2)}
    assert 0.45 < (kinds[1, 1] + kinds[1, 2]) / 2000 < 0.55


def test_no_glyph_is_put_on_a_colour_that_hides_it(
    planner: ScenePlanner, visible: np.ndarray
) -> None:
    colours = list(COLOURS)
    assert (visible < HIDDEN_BELOW).any()
    for _ in range(2000):
        scene = planner.any_scene()
        for placed in scene.objects:
            for colour in scene.colours:
                assert visible[placed.glyph, colours.index(colour)] >= HIDDEN_BELOW


def test_captions_fit_the_trained_length(planner: ScenePlanner) -> None:
    assert max(len(planner.any_scene().caption.split()) for _ in range(2000)) <= TEXT_TOKENS


def test_objects_are_drawn_where_the_plan_says(atlas: np.ndarray) -> None:
    opaque = atlas.copy()
    opaque[..., 3] = 255
    opaque[0, ..., :3] = (255, 0, 0)
    scene = Scene("", ("white",), "down", (Placed(0, 0.25, 0.5, 0.5),), "")
    picture = Composer(opaque, "cpu").draw(plan([scene]), 64)[0]
    red = torch.tensor([1.0, -1.0, -1.0])
    inside = picture[:, 17:47, 1:31]
    assert torch.allclose(inside, red[:, None, None].expand_as(inside), atol=1e-3)
    assert torch.allclose(picture[:, :, 34:], torch.ones(3, 64, 30))
    assert torch.allclose(picture[:, :15], torch.ones(3, 15, 64))
