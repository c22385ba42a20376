"""The batches of a run, stage by stage."""

from tfobj.data.pipeline import BatchStream
from tfobj.inference.schedules import stage_at
from tfobj.training.strategy import distribute


class StageBatches:
    """Gives every stage of training its batches.

    A stage of a video model says how long its clips are, and longer clips come in smaller batches.

    Args:
      scenes: `SceneArrays`.
      config: `TrainConfig`; `batch_size` is that of the first stage.
      stages: of `SceneModel.stages`.
      seed: of the order of the scenes.
      strategy: its replicas and `config.micro_batches` divide every batch.

    Attributes:
      batch_size: scenes in a batch of the stage in force; None before the first one.
    """

    def __init__(self, scenes, config, stages, seed, strategy):
        self.batch_size = None
        self._scenes = scenes
        self._config = config
        self._stages = stages
        self._seed = seed
        self._strategy = strategy
        self._first_step = None
        self._iterator = None

    def iterator(self, step):
        """Returns the iterator whose next batch is that of the update after `step` updates."""
        stage, _ = stage_at(self._stages, step)
        first_step = stream_start(self._stages, step)
        if first_step != self._first_step:
            self._first_step = first_step
            self.batch_size = batch_size_of(
                stage, self._stages, self._config, self._strategy.num_replicas_in_sync
            )
            stream = BatchStream(
                self._scenes, self.batch_size, seed=self._seed, num_frames=stage.num_frames
            )
            dataset = stream.dataset(start_step=step - first_step)
            self._iterator = iter(distribute(self._strategy, dataset))
        return self._iterator

    def steps_left(self, step):
        """Returns (updates until the next stage,), or nothing after the last one."""
        _, change = stage_at(self._stages, step)
        if change is None:
            return ()
        return (change - step,)


def stream_start(stages, step):
    """Returns the number of updates before the first batch of the stream in force after `step`.

    Images have one stream for all stages, clips one for every length.

    Args:
      stages: of `SceneModel.stages`.
      step: number of updates.
    """
    begun = [entry for entry in stages if entry[0] <= step]
    first, stage = begun.pop()
    while begun and begun[-1][1].num_frames == stage.num_frames:
        first, _ = begun.pop()
    return first


def batch_size_of(stage, stages, config, num_replicas):
    """Returns the scenes in a batch of `stage`, a multiple of replicas times micro-batches.

    Args:
      stage: one of `stages`.
      stages: of `SceneModel.stages`.
      config: `TrainConfig`; its `batch_size` is that of the first stage.
      num_replicas: replicas that share a batch.
    """
    if stage.num_frames is None:
        return config.batch_size
    unit = num_replicas * config.micro_batches
    size = config.batch_size * stages[0][1].num_frames // stage.num_frames
    return max(size // unit, 1) * unit
