"""The judge: right about scenes that no model drew, and not to be fooled by wrong ones."""

import numpy as np
import pytest
import torch

from diffusion.training.compose import Composer, plan
from diffusion.training.evaluate import HALVES, score
from diffusion.training.judge import Judge
from diffusion.training.scenes import Scene, ScenePlanner


@pytest.fixture(scope="module")
def judge(atlas: np.ndarray) -> Judge:
    return Judge(atlas)


@pytest.fixture(scope="module")
def composer(atlas: np.ndarray) -> Composer:
    return Composer(atlas, "cpu")


def test_it_knows_every_scene_that_was_drawn_right(
    judge: Judge, composer: Composer, planner: ScenePlanner
) -> None:
    def truth(scenes: list[Scene]) -> torch.Tensor:
        return composer.draw(plan(scenes), 128)

    known = score(judge, planner, truth, singles=40, pairs=16)
    assert known.background == 1
    assert known.top1 >= 0.97
    assert known.top5 == 1
    assert known.pairs == 1


def test_it_refuses_pictures_of_something_else(
    judge: Judge, composer: Composer, planner: ScenePlanner
) -> None:
    def of_the_next_scene(scenes: list[Scene]) -> torch.Tensor:
        return composer.draw(plan([*scenes[1:], scenes[0]]), 128)

    known = score(judge, planner, of_the_next_scene, singles=20, pairs=10)
    assert known.top1 <= 0.05
    assert known.top5 <= 0.15
    assert known.pairs <= 0.1
    assert known.background < 0.5


def test_objects_on_swapped_sides_are_not_both_found(
    judge: Judge, composer: Composer, planner: ScenePlanner
) -> None:
    scene = next(
        scene
        for scene in iter(lambda: planner.pair(plain=True), None)
        if scene.relation == "left of"
        and judge.same[scene.objects[0].glyph] != judge.same[scene.objects[1].glyph]
    )
    picture = composer.draw(plan([scene]), 128)[0].flip(-1) / 2 + 0.5
    left = judge.ranking(picture, HALVES["left of"][0])
    assert judge.rank_of(scene.objects[0].glyph, left) > 5


def test_a_stray_pixel_in_a_corner_changes_nothing(
    judge: Judge, composer: Composer, planner: ScenePlanner
) -> None:
    scene = planner.single(plain=True)
    picture = composer.draw(plan([scene]), 128)[0] / 2 + 0.5
    before = judge.rank_of(scene.objects[0].glyph, judge.ranking(picture))
    picture[:, 0, 0] = 1 - picture[:, 0, 0].round()
    picture[:, -1, -1] = 1 - picture[:, -1, -1].round()
    assert judge.rank_of(scene.objects[0].glyph, judge.ranking(picture)) == before == 1


def test_an_empty_picture_shows_nothing(judge: Judge) -> None:
    assert judge.ranking(torch.full((3, 64, 64), 0.5)) == []
    assert judge.rank_of(0, []) == 10_000


def test_the_same_drawing_under_two_names_counts_as_one(judge: Judge, glyphs: list) -> None:
    index = {glyph.name: number for number, glyph in enumerate(glyphs)}
    medium, large = index["white medium square"], index["white large square"]
    assert judge.same[medium] == judge.same[large]
    assert judge.rank_of(medium, [large, index["cat"]]) == 1
    assert len(set(judge.same)) >= 1350
