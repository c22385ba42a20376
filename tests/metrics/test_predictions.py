"""Predictions in files: known answers, pairing, conventions, refusals, and no TensorFlow."""

import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from sklearn.metrics import adjusted_rand_score

from tfobj.errors import UserError
from tfobj.metrics import predictions
from tfobj.metrics.scores import SceneScorer

ROOT = pathlib.Path(__file__).resolve().parents[2]

TRUE = np.array([[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]], np.uint8)
"""Two objects of four pixels; FG-ARI of a prediction that gives one pixel away is 0.5."""

PREDICTED = np.array([[[5, 5, 0, 0], [5, 0, 0, 0], [0, 0, 9, 9], [0, 0, 9, 9]]], np.uint8)
"""One pixel of the first object is lost to the background: IoU 3/4 and 1."""


def source(array):
    return predictions.Source(pathlib.Path("memory.npy"), None, len(array), lambda i: array[i])


def summary(predicted, true, **settings):
    pairs = predictions.pair(source(predicted), source(true), **settings)
    return predictions.score(pairs).summary()


def one_hot(ids, num, dtype=np.float32):
    return np.moveaxis(np.eye(num, dtype=dtype)[ids], -1, -3)


def test_known_answer_of_label_maps():
    found = summary(PREDICTED, TRUE)
    assert found["miou"] == found["msc"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["ari"] == pytest.approx(adjusted_rand_score(TRUE.ravel(), PREDICTED.ravel()))
    inside = TRUE > 0
    assert found["fg_ari"] == pytest.approx(adjusted_rand_score(TRUE[inside], PREDICTED[inside]))
    assert found["num_objects"] == 2 and found["failed_scenes"] == 0


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param(one_hot(PREDICTED // 4, 3), id="shares"),
        pytest.param(10 * one_hot(PREDICTED // 4, 3) - 5, id="logits"),
        pytest.param(one_hot(PREDICTED // 4, 3)[..., None], id="with a last axis"),
        pytest.param(255 * one_hot(PREDICTED // 4, 3, np.uint8), id="bytes"),
        pytest.param(one_hot(PREDICTED // 4, 3, bool)[:, 1:], id="booleans without background"),
    ],
)
def test_masks_score_as_their_label_map(masks):
    assert summary(masks, TRUE) == summary(PREDICTED, TRUE)


def test_clips_are_scored_over_all_frames():
    true = np.array([[[[1, 1, 2, 2]], [[1, 1, 2, 2]]]])
    switched = np.array([[[[0, 0, 1, 1]], [[1, 1, 0, 0]]]])
    found = summary(switched, true)
    assert found["fg_ari_frame"] == 1.0
    assert found["fg_ari"] == pytest.approx(-1 / 6)
    assert summary(one_hot(switched, 2), true) == found


def test_numbers_are_those_of_an_evaluation():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, (6, 12, 10)).astype(np.uint8)
    true[0] = 0
    masks = rng.dirichlet(np.ones(5), (6, 12, 10)).astype(np.float32)
    masks = np.moveaxis(masks, -1, 1)[..., None]
    image = rng.random((6, 12, 10, 3)).astype(np.float32)
    recon = np.clip(image + 0.1, 0, 1)
    masks[3] = np.nan
    recon[4, 0, 0] = np.inf

    evaluation = SceneScorer()
    evaluation.update(image=image, recon=recon, masks=masks, true_mask=true)
    pairs = predictions.pair(source(masks), source(true))
    found = predictions.score(pairs, source(image), source(recon)).summary()
    assert found == pytest.approx(evaluation.summary(), nan_ok=True)
    assert found["failed_scenes"] == 2 and found["failed_miou"] == 1 == found["failed_mse"]


def test_ignored_pixels_and_the_background_are_chosen():
    true = np.array([[[7, 7, 1, 1], [0, 0, 255, 255]]])
    predicted = np.array([[[0, 0, 1, 1], [2, 2, 3, 4]]])
    found = summary(predicted, true, background_id=7, ignore_id=255)
    assert found["num_objects"] == 2 and found["ari"] == found["miou"] == 1.0
    assert summary(predicted, true)["num_objects"] == 3
    assert summary(predicted, true, background_id=predictions.NO_BACKGROUND)["num_objects"] == 4
    ignored = np.full((1, 2, 2), 255)
    assert summary(ignored * 0, ignored, ignore_id=255)["undefined_ari"] == 1


def test_a_failed_scene_never_raises_a_mean():
    true = np.concatenate([TRUE, TRUE])
    for other in (one_hot(TRUE, 3), one_hot(np.roll(TRUE, 1), 3)):
        masks = np.concatenate([one_hot(TRUE, 3), other])
        broken = masks.copy()
        broken[1, 0, 0, 0] = np.nan
        finite = summary(masks, true)
        failed = summary(broken, true)
        assert failed["failed_scenes"] == 1
        for name in ("fg_ari", "ari", "msc", "msc_all", "sc", "miou", "miou_micro", "fg_ari_low"):
            assert failed[name] < finite[name], name


def write_pictures(folder, ids, names, suffix="", colours=None):
    folder.mkdir(exist_ok=True, parents=True)
    for name, picture in zip(names, ids, strict=True):
        if colours is not None:
            picture = colours[picture]
        PIL.Image.fromarray(picture).save(folder / f"{name}{suffix}.png")


COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)


def test_folders_are_paired_by_name(tmp_path):
    true = np.concatenate([TRUE, TRUE.transpose(0, 2, 1)])
    write_pictures(tmp_path / "truth", true, ["a", "b"])
    write_pictures(tmp_path / "coloured", true, ["b", "a"], "_segmentation", COLOURS)
    (tmp_path / "coloured" / "a_decomposition.png").write_bytes(b"not read")
    predicted = predictions.open_masks(tmp_path / "coloured", suffix="_segmentation")
    truth = predictions.open_masks(tmp_path / "truth")
    pairs = list(predictions.pair(predicted, truth))
    assert [pair.name for pair in pairs] == ["a", "b"]
    assert (pairs[0].true == true[0]).all()
    assert np.unique(pairs[0].predicted).tolist() == [0, 0xFF, 0xFF0000]
    np.testing.assert_array_equal(pairs[0].predicted > 0, true[1] > 0)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGB", "RGBA"])
def test_every_kind_of_label_picture(tmp_path, mode):
    """A palette picture holds ids, whatever its colours are."""
    ids = TRUE[0]
    if mode == "P":
        picture = PIL.Image.fromarray(ids).convert("P")
        picture.putpalette([9, 9, 9] * 256)
    elif mode == "I;16":
        picture = PIL.Image.fromarray(ids.astype(np.uint16) * 300)
    else:
        picture = PIL.Image.fromarray(COLOURS[ids] if mode != "L" else ids).convert(mode)
    picture.save(tmp_path / "a.png")
    read = predictions.open_masks(tmp_path).read(0)
    assert summary(read[None], TRUE)["miou"] == 1.0
    assert (read == 0).sum() == 8


def test_a_folder_of_folders_holds_clips(tmp_path):
    frames = [np.full((2, 2), i, np.uint8) for i in range(11)]
    write_pictures(tmp_path / "clip", frames, [f"frame_{i}" for i in range(11)])
    clip = predictions.open_masks(tmp_path).read(0)
    assert clip[:, 0, 0].tolist() == list(range(11))  # 2 before 10


def test_files_of_arrays(tmp_path):
    np.save(tmp_path / "ids.npy", PREDICTED)
    np.savez(tmp_path / "both.npz", mask=TRUE, segmentation=PREDICTED)
    np.savez(tmp_path / "one.npz", TRUE)
    truth = predictions.open_masks(tmp_path / "both.npz", key="mask")
    for predicted in ("ids.npy", "both.npz"):
        opened = predictions.open_masks(tmp_path / predicted, key="segmentation")
        found = predictions.score(predictions.pair(opened, truth)).summary()
        assert found["miou"] == pytest.approx(7 / 8)
    assert (predictions.open_masks(tmp_path / "one.npz").read(0) == TRUE[0]).all()


@pytest.mark.parametrize(
    "predicted, true, message",
    [
        (PREDICTED[:, :2], TRUE, r"`--predictions` must have the size of `--truth`, \(4, 4\)"),
        (one_hot(TRUE, 3).transpose(0, 2, 3, 1), TRUE, "must have the size of `--truth`"),
        (PREDICTED.astype(np.float32), TRUE, "must be integer ids, or masks with one more axis"),
        (PREDICTED.astype(int) - 1, TRUE, "ids of at least 0. Received: -1 for scene 0"),
        (PREDICTED, TRUE / 1.0, r"`--truth` must hold integer ids .*float64 \(4, 4\) for scene 0"),
        (PREDICTED, one_hot(TRUE, 3, np.uint8)[..., None], "`--truth` must hold integer ids"),
        (np.concatenate([PREDICTED, PREDICTED]), TRUE, "equally many scenes. Received: 2 and 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(predicted, true, message):
    with pytest.raises(UserError, match=message):
        summary(predicted, true)


def test_names_without_partners_are_named(tmp_path):
    write_pictures(tmp_path / "truth", np.repeat(TRUE, 5, 0), list("abcde"))
    write_pictures(tmp_path / "some", np.repeat(TRUE, 2, 0), ["a", "x"])
    write_pictures(tmp_path / "long", np.repeat(TRUE, 5, 0), list("abcde"), "_segmentation")
    truth = predictions.open_masks(tmp_path / "truth")
    message = "b, c, d and 1 more without a partner in .*some; x without a partner in .*truth"
    with pytest.raises(UserError, match=message):
        predictions.matched_names(predictions.open_masks(tmp_path / "some"), truth)
    with pytest.raises(UserError, match="Did you mean --predictions_suffix=_segmentation"):
        predictions.matched_names(predictions.open_masks(tmp_path / "long"), truth)
    with pytest.raises(UserError, match="must both be folders"):
        predictions.matched_names(source(TRUE), truth)


def refuse_file(tmp_path, message, **settings):
    with pytest.raises(UserError, match=message):
        predictions.open_masks(tmp_path, **settings).read(0)


def test_files_that_hold_no_ids_are_refused(tmp_path):
    def put(name, content):
        folder = tmp_path / name
        folder.mkdir()
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            content.save(folder / name)
        return folder

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    photo = PIL.Image.fromarray(noise)
    glass = PIL.Image.fromarray(np.full((2, 2, 4), 128, np.uint8))
    refuse_file(put("photo.png", photo), "one colour per segment. Received: 4,0.. colours")
    refuse_file(put("photo.jpg", photo), "without loss, such as PNG")
    refuse_file(put("glass.png", glass), "must be opaque")
    refuse_file(put("float.tif", PIL.Image.fromarray(np.ones((2, 2), np.float32))), "of mode F")
    refuse_file(put("cut.png", b"\x89PNG\r\n\x1a\n123"), "cut.png` is not a picture that can be")
    refuse_file(put("cut.npy", b"\x93NUMPY\x01"), "cut.npy` cannot be read as a NumPy file")
    refuse_file(put("notes.txt", b""), r"must hold label maps \(\*.png, .*Received: .*, without")
    refuse_file(tmp_path / "nowhere", "nowhere, which is not")
    refuse_file("", "Received: an empty name")


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "evil.npy", np.array([{}], object), allow_pickle=True)
    refuse_file(tmp_path / "evil.npy", "evil.npy` cannot be read as a NumPy file")


def test_animations_and_two_files_of_one_scene_are_refused(tmp_path):
    frames = [PIL.Image.fromarray(np.full((2, 2), i, np.uint8)) for i in (1, 2)]
    (tmp_path / "gif").mkdir()
    frames[0].save(tmp_path / "gif" / "a.gif", save_all=True, append_images=frames[1:])
    refuse_file(tmp_path / "gif", "must be one picture. Received: 2 frames")
    write_pictures(tmp_path / "two", TRUE, ["a"])
    np.save(tmp_path / "two" / "a.npy", TRUE[0])
    refuse_file(tmp_path / "two", "one file for every scene. Received: a.npy and a.png")


def test_reconstructions(tmp_path):
    black = np.zeros((1, 4, 4, 3), np.uint8)
    np.save(tmp_path / "black.npy", black)
    write_pictures(tmp_path / "black", black, ["a"])
    for path in (tmp_path / "black.npy", tmp_path / "black"):
        assert predictions.open_images(path).read(0).shape == (4, 4, 3)
    np.save(tmp_path / "bytes.npy", np.full((1, 4, 4, 3), 255.0))
    with pytest.raises(UserError, match="floats in .0, 1.. Received: whole numbers up to 255"):
        predictions.open_images(tmp_path / "bytes.npy", flag="recons").read(0)

    images = predictions.open_images(tmp_path / "black.npy")
    np.save(tmp_path / "gray.npy", np.full((1, 4, 4, 3), 0.5, np.float32))
    recons = predictions.open_images(tmp_path / "gray.npy")
    pairs = predictions.pair(source(PREDICTED), source(TRUE))
    assert predictions.score(pairs, images, recons).summary()["mse"] == 0.25


@pytest.mark.parametrize("text, expected", [("0", 0), ("255", 255), ("#ff0001", 0xFF0001)])
def test_ids_are_numbers_or_colours(text, expected):
    assert predictions.parse_id(text, "ignore_id") == expected


@pytest.mark.parametrize("text", ["red", "-1", "1.5", "#ff00", ""])
def test_other_ids_are_refused(text):
    with pytest.raises(UserError, match="`--ignore_id` must be a whole number or a colour"):
        predictions.parse_id(text, "ignore_id")


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["tensorflow_probability"] = None
import numpy as np
from tfobj import metrics
from tfobj.metrics import predictions
true = np.array([[[0, 0, 1, 1]]])
masks = np.moveaxis(np.eye(2, dtype=np.float32)[true], -1, 1)[..., None]
ids = metrics.segment_ids(masks)
for name in ("adjusted_rand_index", "segmentation_covering", "mean_matched_iou"):
    assert getattr(metrics, name)(true, ids).tolist() == [1.0], name
image = np.zeros((1, 1, 4, 3), np.float32)
scorer = metrics.SceneScorer()
scorer.update(image=image, recon=image, masks=masks, true_mask=true)
assert scorer.summary()["miou"] == 1.0
assert metrics.diagnose({"loss": 1.0}, num_slots=2, step=1) == []
assert metrics.psnr(1.0) == 0.0
host = [n for n in metrics.__all__ if metrics._PUBLIC[n] != "streaming"]
assert all(getattr(metrics, n) for n in host)
"""


def test_the_host_functions_need_no_tensorflow():
    subprocess.run([sys.executable, "-c", WITHOUT_TENSORFLOW], cwd=ROOT, check=True, timeout=120)
