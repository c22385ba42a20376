"""Published CLEVRER files: run-length masks, annotations, pieces of videos, damage."""

import dataclasses
import json
import pathlib
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from tfobj.data import transforms
from tfobj.datasets.clevrer import annotations, published, rle, sample_files
from tfobj.errors import UserError

pytest.importorskip("av")

WHOLE = published.Selection((0,), 128, 1, 64)
SHORT = published.Selection((0,), 4, 1, 16)


def parsed(**options):
    return annotations.parse(json.dumps(sample_files.annotation(**options)))


def source_of(folder):
    names = ("video_train", "annotation_train", "derender_proposals")
    return published.Source(*(str(folder / f"{name}.zip") for name in names))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three videos whose objects are in view differently.

    In video 3 all objects are in view all the time; in 4 one object never is; in 5 all are in view
    in frames 10 ... 79.
    """
    in_view = np.ones((128, 3), bool)
    hidden = in_view.copy()
    hidden[:, 1] = False
    part = in_view.copy()
    part[:10, 0] = False
    part[80:, 2] = False
    clips = {
        number: (sample_files.annotation(in_view=visible), sample_files.video())
        for number, visible in ((3, in_view), (4, hidden), (5, part))
    }

    folder = tmp_path_factory.mktemp("published")
    sample_files.write_split(folder, "train", clips)
    sample_files.write_proposals(folder, dict.fromkeys(clips, sample_files.proposals()))
    return source_of(folder)


def test_rle_decodes_the_example_of_cocos_description():
    """Its runs are 5, 2, 2, 2, 9, column by column."""
    mask = rle.decode((4, 5), "52207")
    np.testing.assert_array_equal(
        mask.astype(int), [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    )
    np.testing.assert_array_equal(rle.decode([4, 5], b"52207"), mask)
    np.testing.assert_array_equal(rle.decode([4, 5], [5, 2, 2, 2, 9]), mask)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("shape", [(7, 11), (320, 480), (1, 1)])
def test_rle_decodes_what_was_encoded(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    mask[: shape[0] // 3] = False
    np.testing.assert_array_equal(rle.decode(shape, sample_files.encode(mask)), mask)


def test_rle_with_runs_longer_than_a_number_of_three_characters():
    mask = np.zeros((320, 480), bool)
    mask[:, 400:] = True
    assert sample_files.encode(mask)  # runs of 128,000 and 25,600 pixels: four characters
    np.testing.assert_array_equal(rle.decode((320, 480), sample_files.encode(mask)), mask)


@pytest.mark.parametrize(
    "size, counts, message",
    [
        ((4, 5), "5220", "must hold runs that fill 4x5 pixels. Received: 4 runs of 11 pixels"),
        ((5, 5), "52207", "must hold runs that fill 5x5 pixels"),
        ((4, 5), "5220~", "must hold characters '0' to 'o'. Received: '~'"),
        ((4, 5), "5220W", "must end with the end of a number"),
        ((4, 5), [30, -10], "must hold runs"),
    ],
)
def test_rle_that_does_not_fit_is_refused(size, counts, message):
    with pytest.raises(ValueError, match=message):
        rle.decode(size, counts)


def test_annotation_has_codes_tracks_and_collisions():
    annotation = parsed(objects=sample_files.SIX, collisions=((20, 0, 2), (127, 5, 1)))
    assert annotation.num_objects == 6
    assert annotation.collisions == [(20, 0, 2), (127, 5, 1)]
    np.testing.assert_array_equal(annotation.factors["color"], [1, 4, 8, 6, 3, 2])
    np.testing.assert_array_equal(annotation.factors["material"], [2, 1, 1, 2, 2, 1])
    np.testing.assert_array_equal(annotation.factors["shape"], [3, 1, 2, 1, 3, 3])
    np.testing.assert_array_equal(annotation.tracks["position"][7, 4], [4, 7, 0.2])
    assert annotation.tracks["angular_velocity"].shape == (128, 6, 3)
    assert annotation.in_view.all()


def test_objects_stand_in_the_order_of_their_ids_however_the_file_lists_them():
    content = sample_files.annotation()
    content["object_property"].reverse()
    content["motion_trajectory"].reverse()
    for frame in content["motion_trajectory"]:
        frame["objects"].reverse()

    annotation = annotations.parse(json.dumps(content))
    np.testing.assert_array_equal(annotation.factors["color"], parsed().factors["color"])
    np.testing.assert_array_equal(annotation.tracks["position"], parsed().tracks["position"])


def test_frames_may_be_counted_from_one():
    content = sample_files.annotation()
    for frame in content["motion_trajectory"]:
        frame["frame_id"] += 1
    content["collision"][0]["frame_id"] += 1

    annotation = annotations.parse(json.dumps(content))
    assert annotation.collisions == [(20, 0, 2)]
    np.testing.assert_array_equal(annotation.tracks["position"], parsed().tracks["position"])


def broken(change):
    content = sample_files.annotation()
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "broken annotation"),
        ("[]", "broken annotation"),
        (broken(lambda c: c.pop("collision")), "broken annotation"),
        (broken(lambda c: c["object_property"][0].update(color="pink")), "broken annotation"),
        (broken(lambda c: c["motion_trajectory"][3]["objects"].pop()), "broken annotation"),
        (
            broken(lambda c: c["motion_trajectory"][3]["objects"][0].update(location=None)),
            "broken annotation",
        ),
        (broken(lambda c: c["collision"][0].update(object_ids=[10])), "broken annotation"),
        (broken(lambda c: c["motion_trajectory"].pop()), "annotation of 127 frames"),
        (
            json.dumps(
                sample_files.annotation(objects=(*sample_files.SIX, ("brown", "metal", "cube")))
            ),
            "annotation of 7 objects",
        ),
        (json.dumps(sample_files.annotation(objects=(), collisions=())), "annotation of 0 objects"),
    ],
)
def test_broken_annotations_say_what_is_wrong(text, message):
    with pytest.raises(annotations.Broken, match=message):
        annotations.parse(text)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"frames": 3}, "broken proposals"),
        (sample_files.proposals(num_frames=104), "proposals of 104 frames"),
        (
            {"frames": [{"frame_index": t, "objects": [{}] * 8} for t in range(128)]},
            "proposals of 8 masks in a frame",
        ),
    ],
)
def test_broken_proposals_say_what_is_wrong(content, message):
    with pytest.raises(annotations.Broken, match=message):
        annotations.parse_proposals(json.dumps(content))


def labels(frames):
    """Returns the label maps of frames, lists of (mask, kind, score).

    The objects are those of `sample_files.THREE`.
    """
    proposals = [[sample_files.proposal(*item) for item in frame] for frame in frames]
    return annotations.label_maps(proposals, parsed().factors)


def test_masks_belong_to_objects_of_their_kind():
    masks = sample_files.squares()
    kinds = sample_files.THREE

    # The detector missed object 1.
    (result,) = labels([[(masks[2], kinds[2], 0.9), (masks[0], kinds[0], 0.8)]])
    np.testing.assert_array_equal(result, masks[0] * 1 + masks[2] * 3)


def test_of_two_masks_of_a_kind_the_better_one_counts_and_the_other_is_unknown():
    masks = sample_files.squares()
    kinds = sample_files.THREE
    (result,) = labels([[(masks[0], kinds[0], 0.6), (masks[1], kinds[0], 0.9)]])
    np.testing.assert_array_equal(result, masks[1] * 1 + masks[0] * annotations.UNKNOWN)


def test_of_two_equal_scores_the_one_that_was_there_before_counts():
    masks = sample_files.squares()
    later = sample_files.squares(frame=8)
    kind = sample_files.THREE[0]
    result = labels([[(masks[1], kind, 0.9)], [(later[0], kind, 0.9), (later[1], kind, 0.9)]])
    np.testing.assert_array_equal(result[1], later[1] * 1 + later[0] * annotations.UNKNOWN)


def test_a_mask_of_another_kind_belongs_to_the_object_that_was_there_before():
    masks = sample_files.squares()
    later = sample_files.squares(frame=8)
    kinds = sample_files.THREE
    strange = ("brown", "metal", "cube")
    result = labels(
        [
            [(masks[0], kinds[0], 0.9), (masks[1], kinds[1], 0.9)],
            [(later[0], strange, 0.9), (later[1], kinds[1], 0.9), (later[2], strange, 0.9)],
        ]
    )
    expected = later[0] * 1 + later[1] * 2 + later[2] * annotations.UNKNOWN
    np.testing.assert_array_equal(result[1], expected)


def test_where_masks_overlap_the_first_one_counts():
    masks = sample_files.squares()
    kinds = sample_files.THREE
    both = masks[0] | masks[1]

    (result,) = labels([[(masks[1], kinds[1], 0.9), (both, kinds[0], 0.9)]])
    np.testing.assert_array_equal(result, masks[0] * 1 + masks[1] * 2)
    (result,) = labels([[(both, kinds[0], 0.9), (masks[1], kinds[1], 0.9)]])
    np.testing.assert_array_equal(result, both * 1)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda item: item["mask"].update(size=[320, 320]), "broken mask"),
        (lambda item: item["mask"].update(size=[480, 320]), "mask that does not fit the picture"),
        (lambda item: item["mask"].update(counts="52207"), "broken mask"),
        (lambda item: item.pop("mask"), "broken mask"),
        (lambda item: item.pop("color"), "broken mask"),
    ],
)
def test_masks_that_do_not_fit_are_refused(change, message):
    item = sample_files.proposal(sample_files.squares()[0], sample_files.THREE[0])
    change(item)
    with pytest.raises(annotations.Broken, match=message):
        annotations.label_maps([[item]], parsed().factors)


def test_crop_takes_columns_80_to_399():
    picture = np.broadcast_to((np.arange(480) // 2).astype(np.uint8)[None, :, None], (320, 480, 3))
    np.testing.assert_array_equal(published.resize(picture, 320)[5, :, 0], np.arange(80, 400) // 2)


def test_resizing_is_antialiased():
    """Stripes of one pixel become gray; a gradient stays a gradient."""
    stripes = np.zeros((320, 480, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(published.resize(stripes, 64)[:, 1:-1].astype(int) - 100).max() <= 3

    ramp = np.broadcast_to((np.arange(480) // 2).astype(np.uint8)[None, :, None], (320, 480, 3))
    expected = ramp[:, 80:400].reshape(64, 5, 64, 5, 3).mean(axis=(1, 3))
    assert np.abs(published.resize(ramp, 64)[:, 2:-2].astype(float) - expected[:, 2:-2]).max() <= 1


def test_windows_are_consecutive_and_whole():
    assert published.windows(40) == (0, 40, 80)
    assert len(published.windows(4)) == 32
    assert published.windows(128) == (0,)
    assert published.windows(10, stride=4) == (0, 40, 80)
    assert published.windows(129) == ()


def test_split_ids_leave_out_damaged_videos():
    train, validation, test = (published.video_ids(split) for split in published.SPLITS)
    assert (len(train), len(validation), len(test)) == (10_000 - 3, 5_000 - 1, 5_000 - 1)
    assert len({*train, *validation, *test}) == 20_000 - 5
    assert 10_800 not in validation
    assert 9_777 not in train
    assert len(published.video_ids("train", segmentation=False)) == 10_000


@pytest.fixture(scope="module")
def whole(source):
    return published.read([3, 4], source, WHOLE)


def test_whole_videos_have_frames_and_masks_in_their_place(whole):
    assert whole["video"].shape == (2, 128, 64, 64, 3)
    assert whole["left_out"] == []
    assert whole["index"].tolist() == [3, 4]
    gray = whole["video"][..., 0, 0, 0].astype(int)
    assert np.abs(gray - 50 - np.arange(128)).max() <= 2

    squares = sample_files.squares(frame=64)
    labels = sum(mask * (number + 1) for number, mask in enumerate(squares))
    expected = transforms.resize_labels(labels[:, 80:400], (64, 64))
    np.testing.assert_array_equal(whole["mask"][0, 64], expected)


def test_whole_videos_have_factors_and_tracks_of_their_annotation(whole):
    np.testing.assert_array_equal(whole["color"][0], [0, 1, 4, 8, 0, 0, 0])
    np.testing.assert_array_equal(whole["visibility"][0], [1, 1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(whole["position"][0, 9, 2], np.float32([1, 9, 0.2]))
    np.testing.assert_array_equal(whole["in_view"][1, 5], [0, 1, 0, 1, 0, 0, 0])
    np.testing.assert_array_equal(np.argwhere(whole["collision"][0]), [[20, 1], [20, 3]])
    assert whole["partner"][0, 20, 1] == 3
    assert whole["partner"][0, 20, 3] == 1
    assert whole["collision"].max() == 1


def test_types_of_clips(whole):
    types = {"video": np.uint8, "mask": np.uint8, "index": np.int64}
    for name in whole.keys() - {"left_out"}:
        assert whole[name].dtype == types.get(name, np.float32)


def test_without_proposals_masks_are_unknown(source):
    unmasked = dataclasses.replace(source, proposals=None)
    clips = published.read([3], unmasked, published.Selection((0,), 2, 1, 16))
    assert clips["mask"].shape == (1, 2, 16, 16)
    assert (clips["mask"] == 255).all()


def test_training_videos_are_cut_into_consecutive_pieces(source):
    clips = published.read([3, 4], source, published.Selection(published.windows(40), 40, 1, 16))
    assert clips["index"].tolist() == [3, 3, 3, 4, 4, 4]
    assert clips["first_frame"].tolist() == [0, 40, 80] * 2
    np.testing.assert_array_equal(clips["position"][:3, 0, 1, 1], [0, 40, 80])
    assert np.abs(clips["video"][2, :, 0, 0, 0].astype(int) - 130 - np.arange(40)).max() <= 2


def test_trimmed_clips_begin_when_all_objects_are_in_view(source):
    selection = published.Selection(None, 40, 1, 16, (3, 5))
    clips = published.read([3, 4, 5], source, selection)
    assert clips["index"].tolist() == [3, 5]
    assert clips["left_out"] == []
    assert clips["first_frame"].tolist() == [0, 10]
    assert (clips["in_view"][:, :, 1:4] == 1).all()
    assert np.abs(clips["video"][1, :, 0, 0, 0].astype(int) - 60 - np.arange(40)).max() <= 2

    six = dataclasses.replace(selection, objects=(6, 6))
    assert len(published.read([3, 4, 5], source, six)["mask"]) == 0
    strided = published.read([5], source, published.Selection(None, 10, 4, 16, (3, 5)))
    np.testing.assert_array_equal(strided["position"][0, :, 1, 1], 10 + 4 * np.arange(10))


def test_broken_videos_are_left_out_and_named(tmp_path):
    good = sample_files.annotation()
    video = sample_files.video()
    clips = {
        0: (good, video),
        1: ("not json", video),
        2: (good, b"no video"),
        3: (good, sample_files.video(num_frames=104)),
        4: (good, video),
        5: (good, video),
    }
    sample_files.write_split(tmp_path, "train", clips)

    small = {
        "mask": {"size": [2, 2], "counts": "4"},
        "color": "red",
        "material": "metal",
        "shape": "cube",
    }
    proposals = dict.fromkeys(clips, sample_files.proposals())
    proposals[4] = sample_files.proposals(num_frames=104)
    proposals[5] = {"frames": [{"frame_index": frame, "objects": [small]} for frame in range(128)]}
    sample_files.write_proposals(tmp_path, proposals)

    clips = published.read([0, 1, 2, 3, 4, 5, 7_648], source_of(tmp_path), SHORT)
    assert clips["index"].tolist() == [0]
    assert dict(clips["left_out"]) == {
        1: "broken annotation",
        2: "video that cannot be decoded",
        3: "video of 104 frames",
        4: "proposals of 104 frames",
        5: "mask that does not fit the picture",
        7_648: "known to be damaged",
    }


@pytest.mark.parametrize("damage", ["cut", "page"])
def test_a_file_that_is_not_a_zip_file_gives_one_line(tmp_path, source, damage):
    content = pathlib.Path(source.videos).read_bytes()
    damaged = {"cut": content[: len(content) // 2], "page": b"<html>"}
    path = tmp_path / f"{damage}.zip"
    path.write_bytes(damaged[damage])

    message = f"{damage}.zip` is not a ZIP file, damaged, or was not downloaded completely"
    with pytest.raises(UserError, match=message) as error:
        published.read([3], published.Source(str(path), source.annotations, None), SHORT)
    assert "\n" not in str(error.value)


def test_damage_inside_a_zip_file_names_the_video(tmp_path, source):
    content = bytearray(pathlib.Path(source.videos).read_bytes())
    content[500:600] = bytes(100)
    path = tmp_path / "spoiled.zip"
    path.write_bytes(content)

    with pytest.raises(UserError, match="spoiled.zip` is damaged at video_00003.mp4"):
        published.read([3], published.Source(str(path), source.annotations, None), SHORT)


def zip_member(path, compression=zipfile.ZIP_DEFLATED, content=b"x" * 100, **fields):
    """Writes a ZIP file of one video, and changes fields of its directory.

    Args:
      fields: name -> value: `flags`, `kind`, `size`.
    """
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("video_00003.mp4", content)
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\1\2")
    places = {"flags": (6, 8, "<H"), "kind": (8, 10, "<H"), "size": (22, 24, "<I")}
    for name, value in fields.items():
        local, central, layout = places[name]
        struct.pack_into(layout, data, local, value)
        struct.pack_into(layout, data, directory + central, value)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flags": 1}, "Received: an encrypted file"),
        ({"flags": 1 | 1 << 6}, "Received: an encrypted file"),
        ({"kind": 99}, "Received: compression of kind 99"),
        ({"size": 1_500_000_000}, "Received: a file of 1,500,000,000 bytes"),
    ],
)
def test_odd_members_of_a_zip_file_are_one_line(tmp_path, source, options, message):
    zip_member(tmp_path / "odd.zip", **options)
    odd = published.Source(str(tmp_path / "odd.zip"), source.annotations, None)
    with pytest.raises(UserError, match=f"odd.zip` must hold video_00003.mp4 .*{message}") as error:
        published.read([3], odd, SHORT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_unpacks_without_a_bound_is_refused(tmp_path, source, kind):
    zip_member(tmp_path / "odd.zip", kind)
    odd = published.Source(str(tmp_path / "odd.zip"), source.annotations, None)
    with pytest.raises(UserError, match=f"Received: compression of kind {kind}"):
        published.read([3], odd, SHORT)


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(tmp_path, source):
    """200 MB in 200 kB that state a size of 1,000 bytes."""
    zip_member(tmp_path / "bomb.zip", content=bytes(200_000_000), size=1_000)
    bomb = published.Source(str(tmp_path / "bomb.zip"), source.annotations, None)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match="bomb.zip` is damaged at video_00003.mp4"):
            published.read([3], bomb, SHORT)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_missing_video_is_named(source):
    message = (
        "annotation_train.zip` must hold annotation_00009.json. "
        "Received: a ZIP file of 3 other files"
    )
    with pytest.raises(UserError, match=message):
        published.read([9], source, SHORT)


def test_videos_of_another_size_are_refused(tmp_path):
    clip = (sample_files.annotation(), sample_files.video(height=64, width=96))
    sample_files.write_split(tmp_path, "train", {8: clip})
    unmasked = dataclasses.replace(source_of(tmp_path), proposals=None)

    message = "must hold videos of 480x320 pixels. Received: video_00008.mp4 of 96x64"
    with pytest.raises(UserError, match=message):
        published.read([8], unmasked, SHORT)
