"""One worker of the small experiment, for test_multiworker.py.

multiworker_run.py <workdir> <overrides as JSON> [<seconds to sleep per call> [<who fails>]]

The worker that fails raises an error at its third call, and its process lingers for a minute.
"""

import json
import os
import pathlib
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from conftest import TINY, noise_scenes  # noqa: E402  (this folder's)

from tfobj.errors import UserError  # noqa: E402
from tfobj.training import cluster, loop, peers, step, strategy  # noqa: E402
from tfobj.training.experiment import resolve  # noqa: E402


def main(workdir, overrides, pause="0", failing=""):
    fast_run = step.TrainStep.run
    index = str(cluster.read_cluster().index)
    calls = []

    def run(self, iterator, num_steps):
        time.sleep(float(pause))
        calls.append(num_steps)
        if index == failing and len(calls) == 3:
            raise UserError("The disk is full.")
        return fast_run(self, iterator, num_steps)

    step.TrainStep.run = run
    loop.open_scenes = lambda experiment, split, data_dir=None: (noise_scenes(), "noise")
    experiment = resolve("slot_attention", "tetris", overrides={**TINY, **json.loads(overrides)})
    engine = strategy.make_strategy("auto", patience=120.0)
    workers = strategy.peers_of(engine)
    try:
        finished = loop.train(experiment, workdir, engine)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr, flush=True)
        if index == failing:
            time.sleep(60.0)
        peers.leave(workers, 2)
    print(f"finished at step {finished.step}, interrupted: {finished.interrupted}")
    peers.leave(workers, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
