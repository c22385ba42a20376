"""From records to batches: protocols, packed arrays, seeded streams, a user's own folder.

    from tfobj.data import packed, pipeline, protocols

    protocol = protocols.get("tetris")
    train = packed.open_split(protocol, "train")              # builds the dataset if necessary
    stream = pipeline.BatchStream(train, batch_size=32, seed=0)
    dataset = stream.dataset(start_step=0)                    # tf.data.Dataset of SceneBatch dicts

Importing these modules does not import TensorFlow.
"""
