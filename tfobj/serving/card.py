"""The README beside an exported model, written from its metadata."""

from typing import NamedTuple

HEADLINE_SCORES = ("fg_ari", "fg_ari_frame", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr")
"""Metric names of `evaluation.json` that cards and the model index show, in this order."""

_CONDITIONS = ("num_frames", "num_slots", "num_steps", "step", "inference_seed")
"""Keys of `evaluation.json` that say how the scores were measured."""


class _Words(NamedTuple):
    """Words that differ between models of images and of videos."""

    kind: str
    with_article: str
    unit: str
    """Plural of what training and evaluation count."""
    batch: str


_IMAGE_WORDS = _Words("image", "an image", "scenes", "B images")
_VIDEO_WORDS = _Words("video", "a video", "clips", "B video clips of T frames")

_DESCRIPTIONS = {
    "serving_default": "{kind}s -> all results, with the defaults above",
    "serving_float": "the same for float {kind}s in [0, 1]",
    "decompose": "the same with every option as an input",
    "segment": "images -> segmentation only, for small responses",
    "encode": "images -> latents",
    "decode": "latents -> rendered scene at the model's size, for editing",
    "sample": "scenes sampled from the prior, at the model's size",
    "init_state": "the state before the first frame",
    "step": "state and next frames -> next state and all results for these frames",
    "imagine": "state -> next state and all results for a predicted frame, at the model's size",
}
"""Signature -> what it does; `{kind}` is "image" or "video"."""

_SERVER = """TensorFlow Serving, started from the folder that contains `{name}/`:

```
docker run --rm -p 8500:8500 -p 8501:8501 \\
  -v "$PWD/{name}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
```"""

_USE_IMAGES = """## Use

The model needs nothing but TensorFlow:

```python
import tensorflow as tf

model = tf.saved_model.load("{name}/{version}")
# images: uint8, or float32 in [0, 1], [B, H, W, {channels}]
result = model.decompose(images)
result = model.decompose(images, num_slots={num_slots}, num_steps={num_steps}, seed=1)
# Latents may be edited before they are decoded; tfobj does so in launch/edit.py.
scene = model.decode(result["slots"]){prior}
```

{server}

```python
import json, urllib.request

# images: uint8 [B, H, W, {channels}]
body = json.dumps({{"signature_name": "segment", "instances": images.tolist()}}).encode()
answer = urllib.request.urlopen("http://localhost:8501/v1/models/{name}:predict", body)
segmentation = json.load(answer)["predictions"]  # [B][H][W], the slot of every pixel
```

Requests with options use the column format:

```json
{{"signature_name": "decompose",
 "inputs": {{"image": ..., "num_slots": {num_slots}, "num_steps": {num_steps}, "seed": 0}}}}
```

JSON is slow for images. gRPC (port 8500) sends them as bytes, and its `output_filter` selects the
outputs to return."""

_USE_PRIOR = """
scene = model.sample(num=1, seed=3)  # from the prior"""

_USE_CLIPS = """## Use

The model needs nothing but TensorFlow. For whole video clips:

```python
import tensorflow as tf

model = tf.saved_model.load("{name}/{version}")
# video: uint8, or float32 in [0, 1], [B, T, H, W, {channels}]
result = model.decompose(video)
result = model.decompose(video, num_slots={num_slots}, seed=1)
```

Frame by frame, with the same results. The server keeps no state: send the `state_*` outputs of one
request as inputs of the next.

```python
state = model.init_state(batch=1, num_slots={num_slots}, seed=0)
for image in frames:  # [1, H, W, {channels}]
    result = model.step(image, **state)
    state = {{key: value for key, value in result.items() if key.startswith("state_")}}
    segmentation = result["segmentation"]  # [1, H, W]; a slot stays with its object
future = model.imagine(**state)  # the next frame, predicted; continue from its state
```

{server}"""

_ADVICE = """\
- Values out of range, pixels that are not finite and empty batches are rejected with an error that
  states the valid values.
- An image with another aspect ratio than the model's is stretched; crop or pad it first if that
  matters.
- A scene's noise depends on `seed` and on its place in the batch: at another place, the objects of
  the same image may be assigned to the slots in another order.
- The model has learned the kind of images that it was trained on; on others, do not rely on its
  masks. `recon` and `slot_recons` may slightly exceed [0, 1]."""


def render(metadata):
    """Returns the model card of an exported model as Markdown.

    Args:
      metadata: content of `metadata.json`, see `export`.
    """
    sections = [
        _title(metadata),
        _scores(metadata),
        _signatures(metadata),
        _use(metadata),
        _limits(metadata),
    ]
    return "\n\n".join(sections) + "\n"


def _title(metadata):
    words = _words(metadata)
    rows = "\n".join(f"| {name} | {text} |" for name, text in _facts(metadata).items())
    return f"""# {metadata["name"]}, version {metadata["version"]}

Takes {words.with_article} apart into its objects without labels. Every object has a mask, an
appearance and a latent vector.

| | |
|---|---|
{rows}"""


def _facts(metadata):
    """Returns the rows of the table below the title, name -> text."""
    experiment = metadata["experiment"] or {}
    model = experiment.get("model_name", metadata["model"])
    height, width = metadata["image_size"]
    colour = "RGB" if metadata["channels"] == 3 else "gray"
    words = _words(metadata)

    facts = {
        "model": f"{model}, {metadata['parameters']:,} parameters",
        "input": (
            f"{height} x {width} {colour} {words.kind}s; other sizes are stretched to this "
            "one, and results are returned at the size of the input"
        ),
        "defaults": (
            f"{metadata['num_slots']} slots, {metadata['num_steps']} inference steps, seed 0"
        ),
    }

    # Models that were built in Python have no experiment.
    if experiment:
        train = experiment["train"]
        protocol = experiment["data"]["protocol"]
        facts["trained"] = (
            f"preset {experiment['preset']}, seed {experiment['seed']}, {train['steps']:,} steps "
            f"of {train['batch_size']} {words.unit} of `{protocol}`"
        )

    software = metadata["software"].items()
    facts["made with"] = ", ".join(f"{name} {version}" for name, version in software)
    return facts


def _scores(metadata):
    evaluation = metadata["evaluation"]
    if not evaluation:
        return "## Scores\n\nNot evaluated."

    count = f"{evaluation['num_scenes']} {_words(metadata).unit}"
    conditions = ", ".join(
        f"{name.replace('_', ' ')} {evaluation[name]}" for name in _CONDITIONS if name in evaluation
    )
    lines = [
        "## Scores",
        "",
        f"{count}: {evaluation['protocol']}; {conditions}.",
        "",
        "| metric | mean | std over scenes |",
        "|---|---|---|",
    ]

    # Metrics of images and of video clips differ.
    present = [name for name in HEADLINE_SCORES if evaluation.get(name) is not None]
    for name in present:
        mean = _number(evaluation[name])
        std = _number(evaluation.get(f"{name}_std"))
        lines.append(f"| {name} | {mean} | {std} |")
    return "\n".join(lines)


def _signatures(metadata):
    words = _words(metadata)
    lines = [
        "## Signatures",
        "",
        f"{words.batch} of H x W pixels, K slots, D = {metadata['slot_size']} latents per slot; "
        "`?` is any size.",
        "",
        "| signature | description | inputs | outputs |",
        "|---|---|---|---|",
    ]

    for name, signature in metadata["signatures"].items():
        description = _DESCRIPTIONS[name].format(kind=words.kind)
        inputs = _specs(signature["inputs"])
        outputs = _specs(signature["outputs"])
        lines.append(f"| `{name}` | {description} | {inputs} | {outputs} |")
    return "\n".join(lines)


def _use(metadata):
    template = _USE_IMAGES
    if _is_video(metadata):
        template = _USE_CLIPS
    prior = ""
    if metadata["has_prior"]:
        prior = _USE_PRIOR

    keys = ("name", "version", "channels", "num_slots", "num_steps")
    fields = {key: metadata[key] for key in keys}
    return template.format(**fields, prior=prior, server=_SERVER.format(name=metadata["name"]))


def _limits(metadata):
    limits = metadata["limits"]
    return f"""## Limits

- height and width in pixels: {_range(limits["side"])}
- `num_slots`: {_range(limits["num_slots"])}
- `num_steps`: {_range(limits["num_steps"])}
{_ADVICE}"""


def _is_video(metadata):
    # Exports that are older than video models lack the key.
    return metadata.get("is_video", False)


def _words(metadata):
    return _VIDEO_WORDS if _is_video(metadata) else _IMAGE_WORDS


def _range(bounds):
    least, greatest = bounds
    if least == greatest:
        return f"{least} (fixed)"
    return f"{least} ... {greatest}"


def _specs(specs):
    """Returns name -> dtype and shape as the text of one cell."""
    cells = []
    for name, spec in specs.items():
        shape = ", ".join("?" if side is None else str(side) for side in spec["shape"])
        cells.append(f"`{name}` {spec['dtype']} [{shape}]")
    return ", ".join(cells)


def _number(value):
    if value is None:
        return ""
    return f"{value:.4g}"
