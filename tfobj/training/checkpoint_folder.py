"""A folder of checkpoints that is its own index: the newest readable one is found from the files.

    step-200.index, step-200.data-00000-of-00001    the state after 200 updates
    checkpoint                                      the newest, for TensorFlow's own tools

The small file `checkpoint` is written and never read: lost, empty or garbled, it is no obstacle.

A checkpoint is written to `step-200_temp`, synchronised with the disk, and moved to its place, the
index last. A kill at any moment leaves either no index at its place, or all of the checkpoint; the
next start completes or removes what was left (`recover`).
"""

import contextlib
import os
import pathlib
import re
import shutil

from tfobj import files
from tfobj.errors import UserError, first_line

_FILE = re.compile(r"step-(\d+)\.(index|data-\d{5}-of-\d{5})")
_TEMPORARY = "_temp"
_STATE_FILE = "checkpoint"


class CheckpointFolder:
    """The checkpoints of a run, or its best one.

    Args:
      folder: their folder, which need not exist.
      say: function of a line, told which checkpoints are damaged.
    """

    def __init__(self, folder, say=print):
        self.folder = pathlib.Path(folder)
        self._say = say
        self._intact = set()
        self._damaged = set()

    def steps(self):
        """Returns the steps of all checkpoints, intact or not, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_FILE.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted({int(match[1]) for match in found if match})

    def prefix(self, step):
        """Returns the path of a checkpoint without the endings of its files."""
        return self.folder / f"step-{step}"

    def restore(self, read, step=None):
        """Restores the newest readable checkpoint, or that of `step`; names the damaged ones.

        Args:
          read: function of a path as TensorFlow takes it, which restores a checkpoint or raises.
          step: None for the newest readable one.

        Returns:
          Its step, or None if there are no checkpoints.

        Raises:
          UserError: there are checkpoints, but none can be read.
        """
        failures = []
        steps = self.steps() if step is None else [step]
        for candidate in reversed(steps):
            reason = self._try(read, candidate)
            if reason is None:
                self._intact.add(candidate)
                for failure in failures:
                    self._say(f"warning: {failure}; falling back to step {candidate:,}.")
                return candidate
            self._damaged.add(candidate)
            failures.append(f"{self.prefix(candidate)} cannot be read ({reason})")
        if failures:
            raise UserError(
                f"No checkpoint of `{self.folder}` can be read: {'; '.join(failures)}. "
                "Nothing was changed."
            )
        return None

    def _try(self, read, step):
        """Restores a checkpoint; returns why it cannot be read, or None."""
        index = self.prefix(step).with_name(f"step-{step}.index")
        if not index.exists():
            return f"{index.name} is missing"
        try:
            read(os.fspath(self.prefix(step)))
        # The one border to TensorFlow's reader. Of files cut short and files with flipped bytes it
        # throws OpError, IndexError, ValueError, AssertionError, RuntimeError, KeyError and
        # protobuf's DecodeError, which have nothing else in common.
        except Exception as e:
            return first_line(e)
        return None

    def save(self, checkpoint, step, keep):
        """Writes the checkpoint of a step, unless it is there, and removes old ones.

        Args:
          checkpoint: `tf.train.Checkpoint`.
          step: number of finished updates.
          keep: number of intact checkpoints that stay. Those of later steps, which an earlier
            process could write and this one could not read, are not touched.

        Raises:
          UserError: it cannot be written; the files of earlier steps are as they were.
        """
        # Here and not above, because what has been saved can be listed without it.
        import tensorflow as tf

        if step in self._intact:
            return
        temporary = self.prefix(step).with_name(f"step-{step}{_TEMPORARY}")
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            checkpoint.write(os.fspath(temporary / f"step-{step}"))
            self._move(temporary)
        except (tf.errors.OpError, OSError) as e:
            raise UserError(
                f"The checkpoint of step {step} could not be written to `{self.folder}` "
                f"({first_line(e)}). The last complete one is {self._last_intact()}."
            ) from e
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

        self._intact.add(step)
        self._damaged.discard(step)
        self._prune(step, keep)
        self._write_state_file()

    def save_only(self, checkpoint, step):
        """Writes the checkpoint of a step and removes all others."""
        self.save(checkpoint, step, keep=1)
        for other in set(self.steps()) - {step}:
            self._remove(other)
        self._write_state_file()

    def recover(self):
        """Completes or removes what killed writes left behind; for the process with the lock."""
        for temporary in self.folder.glob(f"step-*{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                # The data are in place already, and only the index has still to follow.
                names = [path.name for path in temporary.iterdir()]
                if len(names) == 1 and names[0].endswith(".index"):
                    self._move(temporary)
            shutil.rmtree(temporary, ignore_errors=True)

    def _move(self, temporary):
        """Moves complete files to their place, the index last."""
        parts = sorted(temporary.iterdir(), key=lambda path: path.suffix == ".index")
        for path in parts:
            _synchronise(path)
        for path in parts:
            path.replace(self.folder / path.name)

    def _prune(self, newest, keep):
        """Removes the checkpoints that are older than the last `keep` intact ones."""
        candidates = [step for step in self.steps() if step <= newest]
        intact = [step for step in candidates if step not in self._damaged]
        for step in candidates:
            if step < intact[-keep:][0]:
                self._remove(step)

    def _remove(self, step):
        # The index first: without it the rest is no checkpoint.
        paths = [path for path in self.folder.iterdir() if _step_of(path) == step]
        for path in sorted(paths, key=lambda path: path.suffix != ".index"):
            with contextlib.suppress(OSError):
                path.unlink()
        self._intact.discard(step)

    def _last_intact(self):
        known = [step for step in self.steps() if step not in self._damaged]
        return self.prefix(known[-1]) if known else "none"

    def _write_state_file(self):
        names = [f"step-{step}" for step in self.steps() if step not in self._damaged]
        lines = [f'model_checkpoint_path: "{names[-1]}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
        files.write_text(self.folder / _STATE_FILE, "\n".join(lines) + "\n")


def _step_of(path):
    match = _FILE.fullmatch(path.name)
    return int(match[1]) if match else None


def _synchronise(path):
    """Waits until a file is on the disk, and not only in the memory of the system."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
