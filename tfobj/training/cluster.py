"""Who the workers of a run are, as the environment variable TF_CONFIG says.

TensorFlow reads the same variable; its own messages for a mistake in it are of little help.
"""

import collections
import contextlib
import dataclasses
import json
import os

from tfobj import files
from tfobj.errors import UserError

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
"""The variable of worker 0; that of the other one has index 1."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers in TF_CONFIG."""

    addresses: tuple
    """host:port of every worker, the chief first."""
    index: int
    """Which of them this process is."""

    @property
    def size(self):
        return len(self.addresses)

    def name(self, index):
        """Returns the name of a worker inside of a sentence."""
        return f"{'the chief, ' if index == 0 else ''}worker {index} at {self.addresses[index]}"

    def capitalized_name(self, index):
        """Returns the name of a worker at the beginning of a sentence."""
        name = self.name(index)
        return name[0].upper() + name[1:]


def is_configured():
    """Whether TF_CONFIG names more than this process.

    A text that cannot be read counts, so that it is complained about.
    """
    if not os.environ.get(VARIABLE):
        return False
    with contextlib.suppress(UserError):
        return read_cluster().size > 1
    return True


def read_cluster(text=None):
    """Returns the `Cluster` of `text`, by default of the environment.

    Workers are counted as TensorFlow counts them: a task of type "chief", if there is one, comes
    first; otherwise worker 0 is the chief.

    Raises:
      UserError: the variable is not set, or cannot be read as a list of workers and the place of
        this one in it.
    """
    if text is None:
        text = os.environ.get(VARIABLE, "")
    if not text:
        raise UserError(
            f"`--strategy=multiworker` needs the environment variable {VARIABLE} with all workers "
            f"and the place of this one. Example for the first of two: {VARIABLE}='{EXAMPLE}'."
        )

    jobs, task = _read_entries(text)
    _check_jobs(jobs)

    # TensorFlow's order: it decides which worker is the chief.
    tasks = [(job, index) for job in ("chief", "worker") for index in range(len(jobs.get(job, ())))]
    addresses = tuple(jobs[job][index] for job, index in tasks)
    twice = [address for address, count in collections.Counter(addresses).items() if count > 1]
    if twice:
        raise UserError(
            f"{VARIABLE}: every worker needs an address of its own. "
            f"Received twice: {', '.join(twice)}."
        )

    kind = task.get("type")
    index = task.get("index")
    if isinstance(index, str) and index.isdigit():  # TensorFlow takes text as well.
        index = int(index)
    if (kind, index) not in tasks or isinstance(index, bool):
        valid = ", ".join(f"{job} {number}" for job, number in tasks)
        raise UserError(
            f'{VARIABLE}: "task" must be one of the cluster: {valid}. Received: {json.dumps(task)}.'
        )
    return Cluster(addresses, tasks.index((kind, index)))


def _read_entries(text):
    """Returns the dicts "cluster" and "task" of the variable."""
    try:
        value = files.parse_json(text, VARIABLE, kind=None)
    except UserError as e:
        raise UserError(
            f"{VARIABLE} must be JSON ({e}). Received: {files.excerpt(text)}. Example: {EXAMPLE}."
        ) from e

    entries = value if isinstance(value, dict) else {}
    jobs = entries.get("cluster")
    task = entries.get("task")
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        raise UserError(
            f'{VARIABLE} must have the entries "cluster" and "task". Received: {text}. '
            f"Example: {EXAMPLE}."
        )
    return jobs, task


def _check_jobs(jobs):
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise UserError(
            f'{VARIABLE}: "cluster" may have "worker" and "chief"; every process trains here. '
            f"Received: {', '.join(others)}."
        )

    for job, addresses in jobs.items():
        is_list = isinstance(addresses, list) and bool(addresses)
        if not is_list or not all(isinstance(a, str) and _is_address(a) for a in addresses):
            raise UserError(
                f'{VARIABLE}: "{job}" must be a list of "host:port". '
                f"Received: {json.dumps(addresses)}."
            )

    if len(jobs.get("chief", ())) > 1:
        raise UserError(
            f'{VARIABLE}: "chief" must have one address. Received: {", ".join(jobs["chief"])}.'
        )


def _is_address(text):
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
