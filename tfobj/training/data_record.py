"""`<workdir>/data.json`: which data a run was trained on, so that other data are noticed."""

import json
import pathlib

from tfobj import files
from tfobj.data import fingerprint
from tfobj.data.folder import PREFIX
from tfobj.errors import UserError

DATA = "data.json"
_ACCEPTED = "accepted"


class DataRecord:
    """The data of a run that starts or resumes.

    Args:
      workdir: folder of the run.
      experiment: `ExperimentConfig`.
      scenes: its training scenes, `SceneArrays`.
      accept_new: whether other data than before are accepted.

    Attributes:
      difference: what differs from the data before in words, None if nothing does.

    Raises:
      UserError: the data differ and are not accepted, or `data.json` is damaged.
    """

    def __init__(self, workdir, experiment, scenes, accept_new=False):
        self._path = pathlib.Path(workdir) / DATA
        self.difference = None
        self._accepted = []
        name = experiment.data.protocol
        if experiment.data.has_splits:
            self._fingerprint = fingerprint.of_scenes(scenes)
        else:
            self._fingerprint = fingerprint.of_folder(name.removeprefix(PREFIX))
        self._compare(workdir, accept_new)

    def _compare(self, workdir, accept_new):
        # Runs of earlier versions have none, and get one now.
        try:
            before = fingerprint.read(self._path)
        except FileNotFoundError:
            return
        self._accepted = before.pop(_ACCEPTED, [])
        self.difference = fingerprint.difference(before, self._fingerprint)
        if self.difference is not None and not accept_new:
            raise UserError(
                f"The data are not those that `{workdir}` was trained on: {self.difference}. "
                "Restore them, choose another --workdir, or continue with the new ones by "
                "--accept_new_data."
            )

    def write(self, step):
        """Writes `data.json`, where new data that are accepted from `step` on are noted too."""
        accepted = list(self._accepted)
        if self.difference is not None:
            accepted.append({"step": step, "difference": self.difference})
        content = {**self._fingerprint, _ACCEPTED: accepted}
        files.write_text(self._path, json.dumps(content, indent=1) + "\n")
