"""Data sets on disk as TFDS builds them: built if need be, and read in any of its file formats."""

import contextlib
import fcntl
import importlib.util
import io
import itertools
import os
import pathlib
import shutil
import sys
import time

from tfobj.errors import UserError, first_line

_BATCH = 256
_BATCH_OF_CLIPS = 16

_DESCRIPTION = "dataset_info.json"
"""The file without which TFDS takes a data set for absent."""

_INCOMPLETE = "incomplete."
"""TFDS builds in a folder of this beginning beside the final one."""
_IDLE = 5.0
"""Seconds after which a build that has no file open is over; its files follow each other at once.

Where the system does not tell which files are open, it is an hour without a change.
"""
_IDLE_ELSEWHERE = 3_600.0

_PACKAGES = {"array_record": "array_record", "parquet": "pyarrow", "riegeli": "riegeli"}
"""File format -> package without which it cannot be read."""


def prepare(make_builder, folder):
    """Returns a builder with its data on disk; builds them first if necessary.

    Args:
      make_builder: function that makes the TFDS builder.
      folder: of the data set's versions, for messages.

    Raises:
      UserError: the data on disk cannot be used, or cannot be built; says why.
    """
    try:
        builder = make_builder()
    except UserError:
        raise
    # The one border to the descriptions of data sets, which a builder reads: those that are damaged
    # end in errors of json, protobuf and TFDS.
    except Exception as e:
        raise UserError(
            f"The data set in `{folder}` cannot be opened; its {_DESCRIPTION} may be damaged "
            f"({type(e).__name__}: {first_line(e)}). Delete the folder to have it built again."
        ) from e
    if "://" in os.fspath(builder.data_path):
        return builder
    if not builder.is_prepared():
        builder = _build(builder, make_builder)
    _check_format(builder)
    return builder


def _build(builder, make_builder):
    """Builds the data set; returns a builder of the result."""
    import tensorflow as tf

    folder = pathlib.Path(os.fspath(builder.data_path))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A second process waits here, and then finds the data.
        with locked(folder.parent):
            builder = make_builder()
            if builder.is_prepared():
                return builder
            _clear(folder)
            print(f"Building {builder.info.full_name} in {folder.parent}.", file=sys.stderr)
            # TFDS prints that it downloads data of unknown size, which offline generators do not.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
            return builder
    except (OSError, tf.errors.OpError) as e:
        # Another process may have been faster: a build ends with a rename onto its folder.
        builder = make_builder()
        if builder.is_prepared():
            return builder
        raise UserError(
            f"The data set cannot be built in `{folder.parent}` ({_reason(e)}). Free or choose "
            "another folder by --data_dir."
        ) from e


def _reason(error):
    return getattr(error, "strerror", None) or first_line(error)


def _clear(folder):
    """Removes what earlier builds that were killed, or half a copy, left at or beside `folder`."""
    if folder.exists() and not (folder / _DESCRIPTION).exists():
        aside = _free_name(folder)
        print(
            f"{folder} is no complete data set ({_DESCRIPTION} is missing). It is moved to "
            f"{aside}, and the data set is built again.",
            file=sys.stderr,
        )
        folder.rename(aside)
    for old in folder.parent.glob(f"{_INCOMPLETE}*_{folder.name}"):
        if not _is_in_use(old):
            shutil.rmtree(old, ignore_errors=True)


def _free_name(folder):
    names = (f"{folder.name}.broken{number}" for number in itertools.count(1))
    return next(path for path in map(folder.with_name, names) if not path.exists())


def _is_in_use(folder):
    """Returns whether a program may still be building in `folder`, such as `tfds build`."""
    newest = 0.0
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    age = time.time() - newest
    if not pathlib.Path("/proc/self/fd").exists():
        return age < _IDLE_ELSEWHERE

    if age < _IDLE:
        return True
    for link in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if pathlib.Path(os.readlink(link)).is_relative_to(folder.resolve()):
                return True
    return False


@contextlib.contextmanager
def locked(folder):
    """Holds an existing folder for one process, others wait; yields whether that is possible.

    The lock is on the folder itself, and leaves no file behind.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # Some network file systems lock only files.
            held = False
        yield held
    finally:
        os.close(descriptor)


def _check_format(builder):
    """Raises a `UserError` if the files of a data set cannot be read here."""
    name = builder.info.file_format.value
    package = _PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        raise UserError(
            f"`{os.fspath(builder.data_path)}` is stored in the format {name}, which needs the "
            f"package {package}. Install it, or build the data set with "
            "--file_format=tfrecord in another --data_dir."
        )


def read(builder, source, action="Unpacking"):
    """Yields batches of a prepared split in order: dicts of arrays [n, ...].

    Args:
      builder: TFDS builder with its data on disk.
      source: name of the split.
      action: word before the progress bar.

    Raises:
      UserError: there is no such split, or a file is damaged; names it.
    """
    import tensorflow_datasets as tfds
    from tqdm import auto as tqdm

    if source not in builder.info.splits:
        raise UserError(
            f"{builder.info.full_name} must have a split {source!r}. "
            f"Received: {', '.join(builder.info.splits)}."
        )

    info = builder.info.splits[source]
    progress = tqdm.tqdm(
        total=info.num_examples,
        desc=f"{action} {builder.info.full_name} {source}",
        unit=" scenes",
        mininterval=0.5,
    )
    with progress:
        # Shard by shard, so that an error can name the file.
        for shard, path in enumerate(info.filepaths):
            try:
                for batch in tfds.as_numpy(_open_shard(builder, source, shard, path)):
                    yield batch
                    progress.update(len(batch["mask"]))
            # The one border to the readers of record files: TensorFlow's end in OpError and
            # AssertionError, those of Parquet and ArrayRecord in errors of their own.
            except Exception as error:
                reason = first_line(getattr(error, "message", error))
                raise UserError(
                    f"`{path}` is damaged ({reason}). Delete the folder {builder.data_path} "
                    "to have it built again."
                ) from error


def _open_shard(builder, source, shard, path):
    """Returns a `tf.data.Dataset` of a shard's scenes in batches."""
    import tensorflow_datasets as tfds

    batch_size = _BATCH if "image" in builder.info.features else _BATCH_OF_CLIPS
    if builder.info.file_format.value == "array_record":
        return _open_array_record(builder, path, batch_size)
    return builder.as_dataset(
        split=tfds.core.ReadInstruction(source, from_=shard, to=shard + 1, unit="shard"),
        shuffle_files=False,
        batch_size=batch_size,
        # TFDS would keep a small split in memory, for a second epoch that never comes.
        read_config=tfds.ReadConfig(try_autocache=False),
    )


def _open_array_record(builder, path, batch_size):
    """Returns the same dataset from an ArrayRecord file, which TFDS does not read by tf.data."""
    import tensorflow as tf
    from array_record.python import array_record_data_source

    def records():
        with array_record_data_source.ArrayRecordDataSource([os.fspath(path)]) as source:
            for first in range(0, len(source), batch_size):
                yield from source.__getitems__(range(first, min(first + batch_size, len(source))))

    serialized = tf.data.Dataset.from_generator(
        records, output_signature=tf.TensorSpec([], tf.string)
    )
    return serialized.map(builder.info.features.deserialize_example).batch(batch_size)
