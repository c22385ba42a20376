"""The reader of pictures and clips: what a viewer shows, and one line for what cannot be read."""

import io
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tfobj.data import media
from tfobj.errors import UserError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WHITE = (255, 255, 255)


def read(path, **options):
    """Returns [(time, uint8 [H, W, 3])] of a file."""
    return [(time, np.asarray(image)) for time, image in media.iterate_frames(path, **options)]


def read_still(path):
    ((time, image),) = read(path)
    assert time is None
    return image


def corners():
    """A picture of 32 x 48 pixels in blocks of 8: red and green above, blue at the lower left."""
    blocks = np.zeros((4, 6, 3), np.uint8)
    blocks[0, 0], blocks[0, 5], blocks[3, 0] = RED, GREEN, BLUE
    return blocks.repeat(8, 0).repeat(8, 1)


def noise(seed=0, size=(16, 20)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8))


def png(width, height, depth, colour_type, rows, transparent=b""):
    """Returns a PNG file of kinds that Pillow does not write."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [chunk(b"IHDR", header)]
    if transparent:
        chunks.append(chunk(b"tRNS", transparent))
    chunks += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_pictures_are_upright_and_not_mirrored(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    path = tmp_path / f"a{suffix}"
    Image.fromarray(corners()).save(path, exif=exif, **options.get(suffix, {}))

    found = read_still(path)
    expected = UPRIGHT[orientation](corners())
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 3


def test_animations_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [corners(), 255 - corners()]
    first, second = map(Image.fromarray, frames)
    options = {"save_all": True, "append_images": [second], "lossless": True}
    first.save(tmp_path / "a.webp", exif=exif, **options)
    found = [image for _, image in read(tmp_path / "a.webp")]
    np.testing.assert_array_equal(found, np.rot90(frames, -1, axes=(1, 2)))


def test_damaged_exif_data_is_no_reason_to_refuse_a_picture(tmp_path):
    noise().save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x77\x77")
    np.testing.assert_array_equal(read_still(tmp_path / "a.png"), np.asarray(noise()))


def test_a_photo_with_a_second_one_inside_is_the_first_one_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    first = Image.fromarray(corners())
    options = {"quality": 100, "subsampling": 0, "exif": exif}
    first.save(tmp_path / "a.mpo", save_all=True, append_images=[noise(1)], **options)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.mpo").read_bytes())
    for name in ("a.mpo", "a.jpg"):
        found = read_still(tmp_path / name)
        assert np.abs(found.astype(int) - np.rot90(corners(), -1)).max() <= 3


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_a_file_of_several_pages_is_the_first_page(tmp_path, options):
    noise(0).save(tmp_path / "a.tif", save_all=True, append_images=[noise(1), noise(2)], **options)
    np.testing.assert_array_equal(read_still(tmp_path / "a.tif"), np.asarray(noise(0)))


def test_of_the_sizes_of_an_icon_the_largest_is_read(tmp_path):
    Image.new("RGB", (64, 64), RED).save(tmp_path / "a.ico", sizes=[(16, 16), (64, 64), (32, 32)])
    assert read_still(tmp_path / "a.ico").shape == (64, 64, 3)


LEVELS = np.array([[150, 76, 29]], np.uint8)


@pytest.mark.parametrize(
    "stored",
    [
        LEVELS,
        LEVELS.astype(np.uint16) * 257,
        LEVELS.astype(">u2") * 257,
        np.float32(LEVELS) / 255,
        np.float32([[150.4, 75.6, 29]]) / 255,
    ],
    ids=["8 bits", "16 bits", "16 bits, big end first", "floats", "floats between levels"],
)
def test_gray_numbers_have_the_levels_of_the_8_bit_file(tmp_path, stored):
    if stored.dtype == ">u2":
        size = stored.shape[::-1]
        image = Image.frombytes("I;16B", size, stored.tobytes())
    else:
        image = Image.fromarray(stored)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_still(tmp_path / "a.tif"), LEVELS[..., None].repeat(3, 2))


def test_floats_a_trifle_outside_count_as_black_and_white(tmp_path):
    Image.fromarray(np.float32([[-0.001, 1.001]])).save(tmp_path / "a.tif")
    assert read_still(tmp_path / "a.tif")[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.float32([[0, 150, 255]]), r"floats must lie in \[0, 1\]; it has 0 to 255"),
        (np.float32([[-1, 0, 1]]), r"floats must lie in \[0, 1\]; it has -1 to 1"),
        (np.float32([[0, np.nan]]), "floats must be finite"),
        (np.float32([[0, np.inf]]), "floats must be finite"),
        (np.int32([[0, 70_000]]), "integers must be unsigned, of 8 to 16 bits; it has signed 32"),
    ],
)
def test_numbers_without_a_known_range_are_refused_in_words(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(media.Unreadable, match=f"a.tif` .*{message}"):
        read(tmp_path / "a.tif")


def test_signed_integers_are_refused_in_words(tmp_path):
    image = Image.fromarray(LEVELS.astype(np.uint16))
    image.save(tmp_path / "a.tif", tiffinfo={339: 2})
    with pytest.raises(media.Unreadable, match="integers must be unsigned.*it has signed 16"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_files_in_which_white_is_zero(tmp_path, dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    stored = ((255 - LEVELS) * np.float64(scale)).astype(dtype)
    image = Image.fromarray(stored)
    image.save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    # Pillow writes its own number for the kind of gray: change it in place.
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    (tmp_path / "a.tif").write_bytes(content.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    np.testing.assert_array_equal(read_still(tmp_path / "a.tif")[..., 0], LEVELS)


def test_sixteen_bit_portable_graymap(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + (LEVELS.astype(">u2") * 257).tobytes())
    np.testing.assert_array_equal(read_still(tmp_path / "a.pgm")[..., 0], LEVELS)


def translucent(mode):
    """Returns a picture: red, opaque; red, gone; and red at half strength if the mode has it."""
    rgba = np.array([[[*RED, 255], [*RED, 0], [*RED, 128]]], np.uint8)
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
        image.putpalette([*RED, *RED, *RED])
        image.info["transparency"] = bytes([255, 0, 128])
    return image


@pytest.mark.parametrize(("mode", "suffix"), [("RGBA", ".png"), ("P", ".png"), ("RGBA", ".tif")])
def test_transparent_parts_are_white(tmp_path, mode, suffix):
    translucent(mode).save(tmp_path / f"a{suffix}")
    found = read_still(tmp_path / f"a{suffix}")[0].tolist()
    assert found == [list(RED), list(WHITE), [255, 127, 127]]


def test_gray_with_transparency_and_gray_of_one_bit(tmp_path):
    Image.frombytes("LA", (2, 1), bytes([80, 255, 80, 0])).save(tmp_path / "a.png")
    assert read_still(tmp_path / "a.png")[0].tolist() == [[80] * 3, list(WHITE)]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "b.png")
    assert read_still(tmp_path / "b.png")[0].tolist() == [list(WHITE), [0] * 3]


@pytest.mark.parametrize("colour_type", [0, 2], ids=["gray", "colour"])
def test_one_transparent_colour_of_16_bits(tmp_path, colour_type):
    channels = 1 if colour_type == 0 else 3
    pixels = np.array([0x1234, 0x8001], ">u2")[:, None].repeat(channels, 1)
    rows = b"\0" + pixels.tobytes()
    transparent = pixels[0].tobytes()
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, colour_type, rows, transparent))
    assert read_still(tmp_path / "a.png")[0].tolist() == [list(WHITE), [0x80] * 3]


def test_four_inks(tmp_path):
    image = Image.fromarray(corners()).convert("CMYK")
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0)
    image.save(tmp_path / "a.tif")
    for name in ("a.jpg", "a.tif"):
        found = read_still(tmp_path / name)
        assert np.abs(found.astype(int) - corners()).max() <= 4


def test_colour_profiles_are_converted_and_useless_ones_ignored(tmp_path):
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    patch = Image.new("RGB", (4, 4), (200, 60, 30))
    for name, profile in (
        ("srgb.png", ImageCms.ImageCmsProfile(srgb).tobytes()),
        ("lab.png", ImageCms.ImageCmsProfile(lab).tobytes()),
        ("broken.png", b"no profile"),
    ):
        patch.save(tmp_path / name, icc_profile=profile)
        assert read_still(tmp_path / name)[0, 0].tolist() == [200, 60, 30]

    # sRGB's own profile with red and blue exchanged, under another name.
    content = ImageCms.ImageCmsProfile(srgb).tobytes()
    content = content.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    content = content.replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    content = content.replace(b"sRGB", b"xRGB")
    patch.save(tmp_path / "swapped.png", icc_profile=content)
    assert read_still(tmp_path / "swapped.png")[0, 0].tolist() == pytest.approx(
        [30, 60, 200], abs=2
    )


def write_animation(path, durations, **options):
    first, *others = (noise(i) for i in range(len(durations)))
    if path.suffix == ".webp":
        options["lossless"] = True
    first.save(path, save_all=True, append_images=others, duration=durations, **options)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_frames_of_animations_have_the_times_that_viewers_show(tmp_path, suffix):
    """Frame times of zero are an oversight, which viewers show for 100 ms."""
    path = tmp_path / f"a{suffix}"
    write_animation(path, [50, 0, 200, 10, 40])
    found = read(path)
    np.testing.assert_allclose([time for time, _ in found], [0, 0.05, 0.15, 0.35, 0.45])
    if suffix != ".gif":
        for i, (_, image) in enumerate(found):
            np.testing.assert_array_equal(image, np.asarray(noise(i)))


def test_the_stand_in_of_an_animated_png_is_no_frame(tmp_path):
    noise(9).save(
        tmp_path / "a.png", save_all=True, append_images=[noise(0), noise(1)], default_image=True
    )
    found = read(tmp_path / "a.png")
    assert len(found) == 2
    np.testing.assert_array_equal(found[0][1], np.asarray(noise(0)))
    picture = media.read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(noise(0)))


def test_transparent_parts_of_animations_are_white(tmp_path):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    spot = clear.copy()
    spot.paste(RED, (0, 0, 4, 8))
    clear.save(tmp_path / "a.webp", save_all=True, append_images=[spot], lossless=True)
    (_, first), (_, second) = read(tmp_path / "a.webp")
    assert (first == 255).all()
    assert (second[:, :4] == RED).all()
    assert (second[:, 4:] == 255).all()


def test_an_animation_of_one_frame_is_a_picture(tmp_path):
    for suffix in (".gif", ".webp", ".png"):
        write_animation(tmp_path / f"a{suffix}", [50])
        assert read_still(tmp_path / f"a{suffix}").shape == (16, 20, 3)


def test_only_the_frames_asked_for_are_read(tmp_path):
    write_animation(tmp_path / "a.gif", [50] * 4)
    assert [len(read(tmp_path / "a.gif", max_frames=n)) for n in (1, 2, 3, 9)] == [1, 2, 3, 4]
    assert media.frame_times(tmp_path / "a.gif") == pytest.approx([0, 0.05, 0.1, 0.15])


def test_large_photos_are_reduced_while_they_are_decoded(tmp_path):
    rows = np.linspace(0, 255, 1600, dtype=np.uint8)[:, None, None]
    Image.fromarray(np.broadcast_to(rows, (1600, 2400, 3)).copy()).save(tmp_path / "a.jpg")
    ((_, image),) = media.iterate_frames(tmp_path / "a.jpg", keep_side=100)
    assert image.size == (300, 200)
    ((_, image),) = media.iterate_frames(tmp_path / "a.jpg", keep_side=1000)
    assert image.size == (2400, 1600)


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000), (1, 1), (9999, 1)])
@pytest.mark.parametrize("how", media.FITS)
def test_thin_strips_fit_every_size(size, how):
    strip = Image.new("RGB", size, RED)
    fitted = np.asarray(media.fit(strip, (64, 64), how))
    assert fitted.shape == (64, 64, 3)
    rows = (fitted == RED).all(-1).any(1).sum()
    columns = (fitted == RED).all(-1).any(0).sum()
    assert (rows, columns) == (64, 64) or (
        how == "pad" and sorted((rows, columns)) == [1, 64] and (fitted[0] == 0).any()
    )


# Damage.


def damaged_files():
    """Returns name -> (content, number of frames before the damage; None if there are none)."""
    files = {}

    def saved(image, kind, **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    def frames(kind, **options):
        return saved(noise(0), kind, save_all=True, append_images=[noise(1), noise(2)], **options)

    large = noise(0, (64, 64))
    gif = frames("GIF")
    files["mid_frame.gif"] = (gif[: len(gif) * 8 // 10], 2)
    files["no_end.gif"] = (gif[:-1], 3)
    # Cut between two frames: Pillow alone takes it for a shorter animation.
    timed = frames("GIF", duration=50)
    control = b"!\xf9\x04"
    second = timed.index(control, timed.index(control) + 1)
    files["between.gif"] = (timed[:second], 1)
    content = saved(large, "PNG")
    files["half.png"] = (content[: len(content) // 2], 1)
    files["no_iend.png"] = (content[:-12], 1)
    content = frames("PNG")
    files["animation.png"] = (content[: len(content) * 8 // 10], 2)
    for name, options in (("base.jpg", {}), ("progressive.jpg", {"progressive": True})):
        content = saved(large, "JPEG", **options)
        files[name] = (content[: len(content) // 2], 1)
    content = frames("WEBP")
    files["cut.webp"] = (content[: len(content) // 2], None)
    content = saved(large, "BMP")
    files["cut.bmp"] = (content[: len(content) // 2], 1)
    return files


@pytest.mark.parametrize("name", damaged_files())
def test_damaged_files_are_named_before_any_frame_and_used_on_request(tmp_path, name):
    content, usable = damaged_files()[name]
    path = tmp_path / name
    path.write_bytes(content)

    frames = media.iterate_frames(path)
    with pytest.raises(media.Unreadable, match=f"{name}` is not a picture that can be read"):
        next(frames)

    damages = []
    if usable is None:
        with pytest.raises(media.Unreadable, match=name):
            read(path, use_damaged=True, damages=damages)
        return
    found = read(path, use_damaged=True, damages=damages)
    assert len(found) == usable
    (line,) = damages
    assert name in line
    assert "\n" not in line


def test_what_lies_before_the_damage_is_what_was_there(tmp_path):
    size = (64, 64)
    noise(0, size).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2])
    ((_, image),) = read(tmp_path / "a.png", use_damaged=True)
    np.testing.assert_array_equal(image[:28], np.asarray(noise(0, size))[:28])
    assert not image[40:].any()


def test_a_wrong_checksum_is_damage(tmp_path):
    """The pixels are stored plainly: Pillow would show the wrong one."""
    noise(0).save(tmp_path / "a.png", compress_level=0)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[content.index(b"IDAT") + 200] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(media.Unreadable, match="a.png` .*damaged: a checksum is wrong"):
        read(tmp_path / "a.png")
    assert len(read(tmp_path / "a.png", use_damaged=True)) == 1


FOREIGN = {
    "words": b"words",
    "empty": b"",
    "dds": b"DDS |\0\0\0" + bytes(120),
    "gif": b"GIF89a",
    # 60,000 x 60,000 pixels of one byte each.
    "bomb": png(60_000, 60_000, 8, 0, b""),
    "psd": b"8BPS\0\1" + bytes(40),
    "tiff": b"II*\0\x08\0\0\0" + b"\xff" * 40,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_whatever_a_decoder_throws_is_one_line(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(FOREIGN[kind])
    with pytest.raises(media.Unreadable, match="a.png` is not a picture that can be read") as error:
        read(tmp_path / "a.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "error",
    [IndexError("x"), RecursionError(), MemoryError(), NotImplementedError("a\nb"), KeyError(1)],
)
def test_errors_of_every_kind_are_one_line(tmp_path, monkeypatch, error):
    def broken(*arguments):
        raise error

    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(media.Unreadable, match="a.png`") as raised:
        read(tmp_path / "a.png")
    assert "\n" not in str(raised.value)


def test_names_that_cannot_be_printed_keep_the_message_one_line(tmp_path):
    path = tmp_path / "two\nlines\udcff.png"
    path.write_bytes(b"words")
    with pytest.raises(media.Unreadable) as error:
        read(path)
    assert r"two\nlines\udcff.png` is not" in str(error.value)


def test_pipes_folders_and_missing_files_end_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    os.symlink("self.png", tmp_path / "self.png")
    for name in ("pipe.png", "nowhere.png", "self.png", "."):
        with pytest.raises(media.Unreadable, match="is not a picture that can be read"):
            read(tmp_path / name)


def test_a_picture_named_like_a_video_is_a_picture(tmp_path):
    noise().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    assert read_still(tmp_path / "a.mp4").shape == (16, 20, 3)
    with pytest.raises(media.Unreadable, match="c.mkv` is a video, not a picture"):
        (tmp_path / "c.mkv").write_bytes(b"\x1a\x45\xdf\xa3")
        media.read_picture(tmp_path / "c.mkv")


def test_warnings_of_decoders_are_not_printed_and_filters_come_back(tmp_path):
    """Several threads at once: the last one restores the filters."""
    content = io.BytesIO()
    noise().save(content, "TIFF")
    content = bytearray(content.getvalue())
    (tmp_path / "a.tif").write_bytes(content[:-3])
    before = list(warnings.filters)
    found = []

    def work():
        for _ in range(20):
            try:
                read(tmp_path / "a.tif")
            except UserError as error:
                found.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = list(warnings.filters)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert warnings.filters == inside
    assert warnings.filters == before
    assert len(found) == 80


def test_mutated_files_give_pictures_or_one_line(tmp_path):
    """About a third of 300 can still be read."""
    rng = np.random.default_rng(7)
    originals = []
    for suffix, options in (
        (".gif", {"save_all": True, "append_images": [noise(1), noise(2)]}),
        (".png", {}),
        (".jpg", {}),
        (".webp", {}),
        (".tif", {}),
        (".bmp", {}),
    ):
        noise(0, (12, 12)).save(tmp_path / f"original{suffix}", **options)
        originals.append((suffix, (tmp_path / f"original{suffix}").read_bytes()))

    refused = 0
    for number in range(300):
        suffix, content = originals[number % len(originals)]
        mutated = bytearray(content)
        for place in rng.integers(0, len(mutated), 4):
            mutated[place] = rng.integers(0, 256)
        if number % 4 == 0:
            del mutated[rng.integers(1, len(mutated)) :]
        path = tmp_path / f"mutated{suffix}"
        path.write_bytes(mutated)
        try:
            read(path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 50 < refused < 300
