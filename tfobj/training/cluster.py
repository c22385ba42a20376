"""Who the workers of a run are: what the environment variable TF_CONFIG says.

TensorFlow reads the same variable; its own messages for a mistake in it are of little help.
"""

import collections
import contextlib
import dataclasses
import json
import os

from tfobj.errors import UserError

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'
"""Of worker 0; the other one has index 1."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What TF_CONFIG says."""

    addresses: tuple
    """host:port of every worker, the chief first."""
    index: int
    """Which of them this process is."""

    @property
    def size(self):
        return len(self.addresses)

    def name(self, index):
        """Returns how messages call a worker."""
        return f"{'the chief, ' if index == 0 else ''}worker {index} at {self.addresses[index]}"


def is_configured():
    """Whether TF_CONFIG names more than this process; text that cannot be read counts, so that it is complained about."""
    if not os.environ.get(VARIABLE):
        return False
    with contextlib.suppress(UserError):
        return read_cluster().size > 1
    return True


def read_cluster(text=None):
    """Returns the `Cluster` of `text`, by default of the environment.

    Workers are counted as TensorFlow counts them: a task of type "chief", if there is one, comes first; else worker 0 is the chief.

    Raises:
      UserError: the variable is not set or cannot be read as a list of workers and the place of this one in it.
    """
    text = os.environ.get(VARIABLE, "") if text is None else text
    if not text:
        raise UserError(
            f"`--strategy=multiworker` needs the environment variable {VARIABLE} with all workers and the place of this one. "
            f"Example for the first of two: {VARIABLE}='{EXAMPLE}'."
        )
    try:
        value = json.loads(text)
    except json.JSONDecodeError as e:
        raise UserError(
            f"{VARIABLE} must be JSON ({e}). Received: {text}. Example: {EXAMPLE}."
        ) from e
    jobs, task = (
        value.get(key) if isinstance(value, dict) else None for key in ("cluster", "task")
    )
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        raise UserError(
            f'{VARIABLE} must have the entries "cluster" and "task". Received: {text}. Example: {EXAMPLE}.'
        )
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise UserError(
            f'{VARIABLE}: "cluster" may have "worker" and "chief"; every process trains here. Received: {", ".join(others)}.'
        )
    for job, addresses in jobs.items():
        if (
            not isinstance(addresses, list)
            or not addresses
            or not all(isinstance(a, str) and _is_address(a) for a in addresses)
        ):
            raise UserError(
                f'{VARIABLE}: "{job}" must be a list of "host:port". Received: {json.dumps(addresses)}.'
            )
    tasks = [(job, index) for job in ("chief", "worker") for index in range(len(jobs.get(job, ())))]
    addresses = tuple(jobs[job][index] for job, index in tasks)
    if len(jobs.get("chief", ())) > 1:
        raise UserError(
            f'{VARIABLE}: "chief" must have one address. Received: {", ".join(jobs["chief"])}.'
        )
    twice = [address for address, count in collections.Counter(addresses).items() if count > 1]
    if twice:
        raise UserError(
            f"{VARIABLE}: every worker needs an address of its own. Received twice: {', '.join(twice)}."
        )
    kind, index = task.get("type"), task.get("index")
    if isinstance(index, str) and index.isdigit():  # TensorFlow takes text as well
        index = int(index)
    if (kind, index) not in tasks or isinstance(index, bool):
        valid = ", ".join(f"{job} {number}" for job, number in tasks)
        raise UserError(
            f'{VARIABLE}: "task" must be one of the cluster: {valid}. Received: {json.dumps(task)}.'
        )
    return Cluster(addresses, tasks.index((kind, index)))


def _is_address(text):
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
