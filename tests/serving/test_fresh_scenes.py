"""Generated data sets have names under which their scenes can be drawn."""

import pytest

from tfobj.errors import UserError
from tfobj.serving import fresh_scenes

IMAGE_SIZES = {
    "tetris": 35,
    "multi_dsprites": 64,
    "multi_dsprites_colored_on_black": 64,
    "overlapping_polygons": 64,
}


@pytest.mark.parametrize(("name", "size"), IMAGE_SIZES.items())
def test_image_generators_draw_scenes_by_number(name, size):
    scenes = fresh_scenes.generator(name, is_video=False)(range(3))
    assert scenes["image"].shape == (3, size, size, 3)
    assert scenes["mask"].shape == (3, size, size)


@pytest.mark.parametrize("name", ["balls678_color8", "clevrer345"])
def test_clip_generators_are_found_with_and_without_their_kind(name):
    assert fresh_scenes.generator(name).func is fresh_scenes.generator(name, is_video=True).func


def test_clips_have_the_frames_asked_for():
    size = fresh_scenes.smallest_frame()
    clip = fresh_scenes.generator("balls4_color")([fresh_scenes.FIRST_SCENE], size=size)
    assert clip["video"].shape == (1, fresh_scenes.NUM_FRAMES, size, size, 3)
    assert clip["mask"].shape == (1, fresh_scenes.NUM_FRAMES, size, size)


def test_a_generator_of_the_other_kind_is_refused():
    with pytest.raises(UserError, match="Unknown generated data set of clips 'tetris'"):
        fresh_scenes.generator("tetris", is_video=True)
