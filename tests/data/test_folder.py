"""A user's folder: formats, sizes, orientation, and what is no picture."""

import numpy as np
import pytest
from PIL import Image

from tfobj.data import folder
from tfobj.errors import UserError

SIZE = (16, 16, 3)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def halves(height=20, width=40):
    """Left half red, right half blue."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2, 0] = image[:, width // 2 :, 2] = 255
    return image


def test_all_formats_in_subfolders_in_order(tmp_path):
    for name in ("b.png", "a/z.jpg", "a/b.webp", "c.gif", "d.bmp", "e.tiff"):
        save(tmp_path / name, halves())
    arrays = folder.open_folder(tmp_path, SIZE)
    assert arrays.image.shape == (6, *SIZE) and arrays.mask is None and arrays.fields == ("image",)
    names = [file.relative_to(tmp_path).as_posix() for file in folder.list_files(tmp_path)]
    assert names == ["a/b.webp", "a/z.jpg", "b.png", "c.gif", "d.bmp", "e.tiff"]
    for image in arrays.image:
        assert image[8, 2, 0] > 200 and image[8, 2, 2] < 60  # red on the left, JPEG included
        assert image[8, 13, 2] > 200


def test_crop_cuts_the_centre_and_pad_keeps_all(tmp_path):
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, 20:40] = 200
    save(tmp_path / "wide.png", image)
    cropped = folder.open_folder(tmp_path, (20, 20, 3), fit="crop").image[0]
    assert (cropped == 200).all()
    padded = folder.open_folder(tmp_path, (60, 60, 3), fit="pad").image[0]
    np.testing.assert_array_equal(padded[20:40], image)
    assert (padded[:20] == 0).all() and (padded[40:] == 0).all()


def test_gray_result(tmp_path):
    save(tmp_path / "a.png", halves())
    assert folder.open_folder(tmp_path, (8, 8, 1)).image.shape == (1, 8, 8, 1)


def test_camera_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    save(tmp_path / "a.png", halves(20, 20), exif=exif)
    image = folder.open_folder(tmp_path, SIZE).image[0]
    assert image[2, 8, 0] > 200 and image[13, 8, 2] > 200  # the red left half is on top now


def test_sixteen_bit_and_transparent_pictures(tmp_path):
    Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)).save(tmp_path / "a.png")
    transparent = np.zeros((8, 8, 4), np.uint8)
    transparent[:4] = [255, 0, 0, 255]
    save(tmp_path / "b.png", transparent)
    deep, see_through = folder.open_folder(tmp_path, (8, 8, 3)).image
    assert (deep == 0x80).all()
    assert see_through[0, 0].tolist() == [255, 0, 0] and see_through[7, 0].tolist() == [
        255,
        255,
        255,
    ]


def test_single_picture(tmp_path):
    save(tmp_path / "a.png", halves())
    assert len(folder.open_folder(tmp_path / "a.png", SIZE)) == 1


@pytest.mark.parametrize("content", [b"not a picture", b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    save(tmp_path / "a.png", halves())
    (tmp_path / "b.png").write_bytes(content)
    with pytest.raises(UserError, match=r"b.png` is not a picture that can be read") as error:
        folder.open_folder(tmp_path, SIZE)
    assert "\n" not in str(error.value)
    with pytest.warns(
        UserWarning, match="1 of 2 files are no pictures and were skipped, the first: .*b.png"
    ):
        assert len(folder.open_folder(tmp_path, SIZE, skip_unreadable=True)) == 1


def test_truncated_picture_is_named(tmp_path):
    save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="a.png` is not a picture"):
        folder.open_folder(tmp_path, SIZE)


def test_hidden_files_are_left_out(tmp_path):
    save(tmp_path / "a.png", halves())
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "b.txt").write_bytes(b"x")
    assert len(folder.open_folder(tmp_path, SIZE)) == 1


def test_hidden_parent_folders_do_not_matter(tmp_path):
    save(tmp_path / ".hidden" / "a.png", halves())
    assert len(folder.open_folder(tmp_path / ".hidden", SIZE)) == 1


def test_errors_name_the_argument(tmp_path):
    with pytest.raises(UserError, match="`path` must be a folder of pictures.*no such folder"):
        folder.open_folder(tmp_path / "nowhere", SIZE)
    with pytest.raises(UserError, match="which has no files"):
        folder.open_folder(tmp_path, SIZE)

    (tmp_path / "a.txt").write_text("words")
    with (
        pytest.warns(UserWarning, match="1 of 1 files"),
        pytest.raises(UserError, match="where no file is one"),
    ):
        folder.open_folder(tmp_path, SIZE, skip_unreadable=True)
    with pytest.raises(UserError, match="Unknown fit 'cropp'. Did you mean 'crop'"):
        folder.open_folder(tmp_path, SIZE, fit="cropp")
    with pytest.raises(
        UserError, match=r"`image_size` must be .* Received: image_size=\(16, 16, 2\)"
    ):
        folder.open_folder(tmp_path, (16, 16, 2))


def test_results_of_this_program_are_no_pictures_of_the_user(tmp_path):
    from tfobj.serving import output_files

    save(tmp_path / "a.png", halves())
    output_files.write_image(tmp_path / "a_segmentation.png", np.zeros((8, 8, 3)))
    output_files.write_arrays(tmp_path / "a_masks.npz", masks=np.zeros(3))
    with pytest.warns(UserWarning, match="2 results of earlier runs were not taken for a picture"):
        assert len(folder.open_folder(tmp_path, SIZE)) == 1

    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match="which holds results of this program alone"):
        folder.open_folder(tmp_path, SIZE)
    # One that is named is read.
    assert len(folder.open_folder(tmp_path / "a_segmentation.png", SIZE)) == 1


def test_class_folders_that_are_links_are_followed(tmp_path):
    save(tmp_path / "store" / "cats" / "a.png", halves())
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cat").symlink_to("../store/cats")
    assert len(folder.open_folder(tmp_path / "root", SIZE)) == 1


@pytest.mark.parametrize(("fit", "rows"), [("crop", 16), ("pad", 1)])
def test_a_thin_strip_keeps_a_row(tmp_path, fit, rows):
    Image.new("RGB", (4000, 3), (200, 0, 0)).save(tmp_path / "a.png")
    image = folder.open_folder(tmp_path, SIZE, fit=fit).image[0]
    assert (image == (200, 0, 0)).all(axis=(1, 2)).sum() == rows


def test_of_files_with_several_pictures_the_first_is_read(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    for name in ("a.gif", "b.tif", "c.webp", "d.png", "e.mpo"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
    image = folder.open_folder(tmp_path, SIZE).image
    assert len(image) == 5
    assert (image[..., 0] > 250).all()
    assert (image[..., 2] < 5).all()


def test_only_the_pictures_asked_for_are_read(tmp_path, monkeypatch):
    for number in range(6):
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_text("words")
    opened = []
    read = folder.media.read_picture
    monkeypatch.setattr(
        folder.media, "read_picture", lambda file, **options: opened.append(file) or read(file)
    )
    with pytest.warns(UserWarning, match="1 of 6 files are no pictures and were skipped"):
        scenes, total = folder.open_first(tmp_path, SIZE, 1, 2)
    assert scenes.image[:, 0, 0, 0].tolist() == [10, 30]
    assert total == 5
    assert [file.name for file in opened] == ["1.png", "2.png", "3.png"]
