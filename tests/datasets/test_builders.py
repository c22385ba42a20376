"""Scene builders and the reader of published files: contents, splits, one-line errors."""

import gzip
import io
import json

import built_datasets
import numpy as np
import pytest
from PIL import Image

from tfobj.data import transforms
from tfobj.datasets import png, public_records
from tfobj.datasets.generators import polygons, sprites, tetris
from tfobj.datasets.multi_dsprites import multi_dsprites_dataset_builder
from tfobj.datasets.overlapping_polygons import overlapping_polygons_dataset_builder
from tfobj.datasets.scene_builder import SceneConfig
from tfobj.datasets.tetris import tetris_dataset_builder
from tfobj.errors import UserError

BUILDERS = [
    tetris_dataset_builder.Builder,
    multi_dsprites_dataset_builder.Builder,
    overlapping_polygons_dataset_builder.Builder,
]
PUBLISHED_VARIANTS = [name for name, variant in sprites.VARIANTS.items() if variant.published]
TETRIS_FILE = (
    tetris_dataset_builder.Builder.pkg_dir_path / "dummy_data" / "tetrominoes_train.tfrecords"
)


@pytest.fixture(scope="module")
def tetris_schema():
    return tetris_dataset_builder.Builder(config="public").public_file()


def read_all(path, schema, start=0, stop=8):
    chunks = list(public_records.read(path, schema, start, stop))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def build(builder_cls, data_dir, **options):
    builder = builder_cls(data_dir=data_dir, config=SceneConfig(name="small", **options))
    builder.download_and_prepare()
    return builder


def test_generated_builder_holds_the_generators_scenes(tmp_path):
    builder = build(tetris_dataset_builder.Builder, tmp_path, num_train=12, num_test=5, seed=3)

    for split, first, size in (("train", 0, 12), ("test", 60_000, 5)):
        indices = np.arange(first, first + size)
        stored = built_datasets.contents(builder, split)
        expected = tetris.scenes(indices, seed=3)
        np.testing.assert_array_equal(stored["index"], indices)
        np.testing.assert_array_equal(stored["image"], expected["image"])
        np.testing.assert_array_equal(stored["mask"], expected["mask"])
        for name, values in stored["factors"].items():
            np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("variant", list(sprites.VARIANTS))
def test_sprites_builder_holds_scenes_of_the_configs_size(tmp_path, variant):
    builder = build(
        multi_dsprites_dataset_builder.Builder,
        tmp_path,
        variant=variant,
        num_train=3,
        num_test=2,
        image_size=32,
    )

    stored = built_datasets.contents(builder, "test")
    expected = sprites.scenes([60_000, 60_001], variant=variant, size=32)
    np.testing.assert_array_equal(stored["image"], expected["image"])
    np.testing.assert_array_equal(stored["factors"]["orientation"], expected["orientation"])

    has_depth = variant == "colored_on_black"
    assert ("amodal_masks" in stored) == ("depth" in stored["factors"]) == has_depth
    if has_depth:
        packed = np.packbits(expected["amodal_masks"], axis=-1)
        np.testing.assert_array_equal(stored["amodal_masks"], packed)
        np.testing.assert_array_equal(stored["factors"]["depth"], expected["depth"])


def test_polygons_builder_stores_amodal_masks_and_depth(tmp_path):
    """The 36 pixels of a row take four and a half bytes."""
    builder = build(
        overlapping_polygons_dataset_builder.Builder,
        tmp_path,
        num_train=7,
        num_test=5,
        test_start=90_000,
        image_size=36,
        seed=2,
    )

    stored = built_datasets.contents(builder, "test")
    expected = polygons.scenes(np.arange(90_000, 90_005), seed=2, size=36)
    assert stored["amodal_masks"].shape == (5, 3, 36, 5)
    np.testing.assert_array_equal(
        np.unpackbits(stored["amodal_masks"], axis=-1, count=36), expected["amodal_masks"]
    )
    np.testing.assert_array_equal(stored["image"], expected["image"])
    np.testing.assert_array_equal(stored["mask"], expected["mask"])

    assert set(stored["factors"]) == set(expected) - {"image", "mask", "amodal_masks"}
    for name, values in stored["factors"].items():
        np.testing.assert_array_equal(values, expected[name])


def test_datasets_of_the_factored_scene_model_have_100_000_scenes():
    for builder_cls, name in (
        (overlapping_polygons_dataset_builder.Builder, "generated"),
        (multi_dsprites_dataset_builder.Builder, "generated_colored_on_black"),
    ):
        config = builder_cls.builder_configs[name]
        assert (config.num_train, config.test_start, config.num_test) == (90_000, 90_000, 10_000)


def test_features_of_older_configs_have_not_changed():
    """Data that was prepared before amodal masks were added stays readable."""
    for variant in PUBLISHED_VARIANTS:
        features = multi_dsprites_dataset_builder.Builder(
            config=f"generated_{variant}"
        ).info.features
        assert set(features) == {"image", "mask", "factors", "index"}
        assert set(features["factors"]) == {
            "x",
            "y",
            "shape",
            "orientation",
            "scale",
            "color",
            "visibility",
        }


@pytest.mark.parametrize(
    "builder_cls, options, message",
    [
        (
            overlapping_polygons_dataset_builder.Builder,
            {},
            "`public` must be False for overlapping_polygons",
        ),
        (
            multi_dsprites_dataset_builder.Builder,
            {"variant": "colored_on_black"},
            "`variant` must be one of binarized, .*colored_on_colored for published files. "
            "Received: 'colored_on_black'",
        ),
    ],
)
def test_unpublished_datasets_cannot_be_read(tmp_path, builder_cls, options, message):
    with pytest.raises(UserError, match=message):
        build(builder_cls, tmp_path, public=True, **options)


def test_unpublished_variants_have_no_public_config():
    assert "public_colored_on_black" not in multi_dsprites_dataset_builder.Builder.builder_configs


@pytest.mark.parametrize("builder_cls", BUILDERS)
def test_build_without_a_config_stays_offline(builder_cls):
    """`tfds build` builds all of BUILDER_CONFIGS, so published files must be asked for by name."""
    assert not any(config.public for config in builder_cls.BUILDER_CONFIGS)
    is_published = builder_cls is not overlapping_polygons_dataset_builder.Builder
    has_public_configs = any(config.public for config in builder_cls.builder_configs.values())
    assert is_published == builder_cls.HAS_PUBLISHED_FILES
    assert has_public_configs == is_published
    assert not builder_cls(config=builder_cls.DEFAULT_BUILDER_CONFIG_NAME).builder_config.public


@pytest.mark.parametrize("builder_cls", BUILDERS)
def test_builder_finds_its_documents(builder_cls):
    metadata = builder_cls.get_metadata()
    assert "papers test on" in metadata.description
    assert "title={" in metadata.citation
    assert metadata.tags


def test_command_line_json_makes_a_config():
    options = json.loads('{"name": "tiny", "num_train": 4, "num_test": 2, "image_size": 40}')
    builder = tetris_dataset_builder.Builder(
        config=tetris_dataset_builder.Builder.builder_config_cls(**options)
    )
    assert builder.info.features["image"].shape == (40, 40, 3)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_train=0), "`num_train` must be at least 1. Received: num_train=0"),
        (
            dict(num_train=70_000),
            "`test_start` must be at least `num_train`.*test_start=60000, num_train=70000",
        ),
        (dict(public=True, image_size=40), "`image_size` is an option of generated data"),
        (dict(image_size=0), "`image_size` must be at least 1. Received: image_size=0"),
    ],
)
def test_wrong_configs_name_the_option(options, message):
    with pytest.raises(UserError, match=message):
        SceneConfig(name="wrong", **options)


def test_public_file_holds_the_scenes_that_were_written(tetris_schema):
    stored = read_all(TETRIS_FILE, tetris_schema)
    for name, values in tetris.scenes(np.arange(8)).items():
        np.testing.assert_array_equal(stored[name], values)


@pytest.mark.parametrize("variant", PUBLISHED_VARIANTS)
def test_public_sprites_store_the_entity_axis_third(tmp_path, variant):
    schema = multi_dsprites_dataset_builder.Builder(config=f"public_{variant}").public_file()
    assert schema.mask_shape == (64, 64, sprites.VARIANTS[variant].num_entities, 1)
    scenes = sprites.scenes(np.arange(3), variant=variant)
    public_records.write(tmp_path / "file", schema, scenes)
    stored = read_all(tmp_path / "file", schema, 1, 3)
    np.testing.assert_array_equal(stored["mask"], scenes["mask"][1:])
    np.testing.assert_array_equal(stored["image"], scenes["image"][1:])
    np.testing.assert_array_equal(stored["scale"], scenes["scale"][1:])


def test_public_bytes_are_stored_one_by_one():
    """This is how the published files are; a schema of one string per feature cannot read them."""
    import tensorflow as tf

    record = next(iter(tf.data.TFRecordDataset(str(TETRIS_FILE), "GZIP"))).numpy()
    feature = tf.train.Example.FromString(record).features.feature
    assert {name: len(feature[name].bytes_list.value) for name in ("image", "mask")} == {
        "image": 3675,
        "mask": 4900,
    }
    assert {len(value) for value in feature["image"].bytes_list.value} == {1}
    assert len(feature["color"].float_list.value) == 12


def test_public_builder_reads_a_file_on_disk(tmp_path):
    builder = build(
        tetris_dataset_builder.Builder,
        tmp_path,
        public=True,
        path=str(TETRIS_FILE),
        num_train=5,
        num_test=3,
        test_start=5,
    )

    stored = built_datasets.contents(builder, "test")
    np.testing.assert_array_equal(stored["image"], tetris.scenes([5, 6, 7])["image"])
    np.testing.assert_array_equal(stored["index"], [5, 6, 7])


def test_public_builder_names_a_missing_file(tmp_path):
    with pytest.raises(
        UserError, match="`path` must be an existing file. Received: path='/nowhere/file'"
    ):
        build(tetris_dataset_builder.Builder, tmp_path, public=True, path="/nowhere/file")


def damaged_file(tmp_path, damage):
    """Writes a damaged copy of the small published file and returns its path."""
    content = TETRIS_FILE.read_bytes()
    plain = gzip.decompress(content)
    damaged = {
        "plain": plain,
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "flipped": content[:1500] + bytes([content[1500] ^ 0xFF]) + content[1501:],
        "cut_record": gzip.compress(plain[:30_000]),
    }

    path = tmp_path / f"{damage}.tfrecords"
    path.write_bytes(damaged[damage])
    return path


@pytest.mark.parametrize(
    "damage, message",
    [
        ("plain", r"must be a GZIP file \(first bytes 1f 8b\). Received: "),
        ("empty", r"must be a GZIP file .* Received: an empty file"),
        ("truncated", "is damaged or was not downloaded completely"),
        ("flipped", "is damaged or was not downloaded completely"),
        ("cut_record", "is damaged or was not downloaded completely"),
    ],
)
def test_damaged_public_file_gives_one_line(tmp_path, tetris_schema, damage, message):
    path = damaged_file(tmp_path, damage)
    with pytest.raises(UserError, match=message) as error:
        read_all(path, tetris_schema)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_short_public_file_gives_one_line(tetris_schema):
    with pytest.raises(UserError, match="must hold at least 9 records. Received: 8"):
        read_all(TETRIS_FILE, tetris_schema, 5, 9)


def test_public_file_of_another_dataset_gives_one_line():
    schema = multi_dsprites_dataset_builder.Builder(config="public_binarized").public_file()
    with pytest.raises(
        UserError, match="must hold records of multi_dsprites/.* Received other features"
    ) as error:
        read_all(TETRIS_FILE, schema)
    assert "\n" not in str(error.value)


def test_public_file_without_a_partition_gives_one_line(tmp_path, tetris_schema, monkeypatch):
    def overlapping(labels, count):
        return np.full((len(labels), count, 35, 35), 255, np.uint8)

    monkeypatch.setattr(transforms, "entity_masks_from_labels", overlapping)
    public_records.write(tmp_path / "file", tetris_schema, tetris.scenes([0]))
    with pytest.raises(UserError, match="must hold exclusive masks.*pixels with 4 to 4 owners"):
        read_all(tmp_path / "file", tetris_schema, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_read_by_pillow(channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 11, channels), dtype=np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(png.encode(image)))).reshape(image.shape)
    np.testing.assert_array_equal(decoded, image)


def test_png_names_what_it_cannot_encode():
    with pytest.raises(ValueError, match="`image` must be uint8 with 1 or 3 channels"):
        png.encode(np.zeros((4, 4, 2), np.uint8))
