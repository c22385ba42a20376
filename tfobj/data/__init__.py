"""From records to batches: protocols, packed arrays, seeded streams, a user's own folder.

    from tfobj.data import packed, pipeline, protocols

    protocol = protocols.get("tetris")
    train = packed.open_split(protocol, "train")              # builds the dataset if necessary
    stream = pipeline.BatchStream(train, batch_size=32, seed=0)
    dataset = stream.dataset(start_step=0)                    # tf.data.Dataset of SceneBatch dicts

| module | holds |
|---|---|
| `protocols` | the papers' splits, crops and sizes |
| `packed`, `preview` | a data set's scenes as arrays: all of a split, or a few to look at |
| `pipeline`, `transforms` | seeded batches; crops, sizes and masks |
| `folder` | a user's pictures as scenes |
| `media`, `levels`, `decoding`, `truncation` | the one reader of pictures, animations and videos |
| `file_tree`, `own_files` | files below a folder, and which of them are results |

Importing these modules does not import TensorFlow.
"""
