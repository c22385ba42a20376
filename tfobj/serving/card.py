"""The README beside an exported model, written from its metadata.

Names of models and data are text of users. They appear as they are: escaped in Markdown, as string
literals in Python and JSON, and quoted in commands.
"""

import json
import re
import shlex
import urllib.parse
from typing import NamedTuple

from tfobj.errors import UserError
from tfobj.serving.checks import MODEL_PIXEL
from tfobj.serving.zoo import HEADLINE_SCORES

_PLAIN_NAME = re.compile("[A-Za-z0-9._-]+")
"""Names that mean the same in every language of a card."""

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

_SERVER = """TensorFlow Serving, started from the folder that contains {title}:

{command}"""

_USE_IMAGES = """## Use

The model needs nothing but TensorFlow:

{fence}python
import tensorflow as tf

model = tf.saved_model.load({path})
# images: uint8, or float32 in [0, 1], [B, H, W, {channels}]
result = model.decompose(images)
result = model.decompose(images, num_slots={num_slots}, num_steps={num_steps}, seed=1)
# Latents may be edited before they are decoded; tfobj does so in launch/edit.py.
scene = model.decode(result["slots"]){prior}
{fence}

{server}

{fence}python
import json, urllib.request

# images: uint8 [B, H, W, {channels}]
body = json.dumps({{"signature_name": "segment", "instances": images.tolist()}}).encode()
answer = urllib.request.urlopen({url}, body)
segmentation = json.load(answer)["predictions"]  # [B][H][W], the slot of every pixel
{fence}

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

{fence}python
import tensorflow as tf

model = tf.saved_model.load({path})
# video: uint8, or float32 in [0, 1], [B, T, H, W, {channels}]
result = model.decompose(video)
result = model.decompose(video, num_slots={num_slots}, seed=1)
{fence}

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
- The noise depends on `seed` alone, so the results of a scene do not depend on the rest of its
  batch: a server may join requests (the limits hold for the joined batch).
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
    return f"""# {literal(metadata["name"])}, version {metadata["version"]}

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
        "model": f"{literal(model)}, {metadata['parameters']:,} parameters",
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
        preset = literal(experiment["preset"])
        # A bar ends a cell, even in a code span.
        protocol = _code(experiment["data"]["protocol"]).replace("|", "\\|")
        facts["trained"] = (
            f"preset {preset}, seed {experiment['seed']}, {train['steps']:,} steps of "
            f"{train['batch_size']} {words.unit} of {protocol}"
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
        f"{count}: {literal(evaluation['protocol'])}; {conditions}.",
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

    name = metadata["name"]
    fence = _fence(name)
    server = _SERVER.format(
        title=_code(f"{name}/"), command=f"{fence}\n{_docker_command(name)}\n{fence}"
    )
    url = f"http://localhost:8501/v1/models/{urllib.parse.quote(name, safe='')}:predict"
    keys = ("channels", "num_slots", "num_steps")
    return template.format(
        **{key: metadata[key] for key in keys},
        path=_string(f"{name}/{metadata['version']}"),
        url=_string(url),
        prior=prior,
        server=server,
        fence=fence,
    )


def _docker_command(name):
    """Returns the command that serves the model `name`, on two lines."""
    if _PLAIN_NAME.fullmatch(name):
        mount = f'-v "$PWD/{name}:/models/{name}"'
    elif ":" in name:
        # Colons separate the parts of -v.
        mount = f'--mount type=bind,source="$PWD"/{shlex.quote(f"{name},target=/models/{name}")}'
    else:
        mount = f'-v "$PWD"/{shlex.quote(f"{name}:/models/{name}")}'
    variable = shlex.quote(f"MODEL_NAME={name}")
    return (
        f"docker run --rm -p 8500:8500 -p 8501:8501 \\\n  {mount} -e {variable} tensorflow/serving"
    )


def _limits(metadata):
    limits = metadata["limits"]
    return f"""## Limits

- height and width in pixels: {_range(limits["side"])}
- `num_slots`: {_range(limits["num_slots"])}
- `num_steps`: {_range(limits["num_steps"])}
{_size_limits(metadata)}
{_ADVICE}"""


def _size_limits(metadata):
    """Returns the lines about the size of a request."""
    limits = metadata["limits"]
    _, greatest = limits["slot_pixels"]
    height, width = metadata["image_size"]
    inside = MODEL_PIXEL * height * width
    most = greatest // (inside * metadata["num_slots"])

    unit = "scenes"
    more = ""
    if _is_video(metadata):
        unit = "frames"
        _, last = limits["frame"]
        more = (
            f"\n- `batch` of `init_state`: {_range(limits['num'])}"
            f"\n- `state_frame`: 0 ... {last}, so a stream ends after a day at 24 frames a second"
        )
    elif limits["num_steps"][0] < limits["num_steps"][1]:
        more = (
            f"\n- inference steps beyond the {metadata['num_steps']} of the default multiply the "
            f"{inside:,} pixels in proportion"
        )
    if metadata["has_prior"]:
        more += f"\n- `num` of `sample`: {_range(limits['num'])}"
    return (
        f"- {unit} x slots x pixels of one request: at most {greatest:,}, where pixels are H x W, "
        f"or {inside:,} ({MODEL_PIXEL} x {height} x {width}) if that is more. With the defaults, "
        f"that is {most:,} {unit} of the model's size{more}"
    )


def check_evaluation(evaluation):
    """Checks the content of an `evaluation.json`.

    Raises:
      UserError: names the key that a card cannot show.
    """
    if not isinstance(evaluation, dict):
        raise UserError("it must hold an object")
    if not isinstance(evaluation.get("protocol"), str):
        raise UserError("`protocol` must be a text")
    scores = [name for name in HEADLINE_SCORES if evaluation.get(name) is not None]
    scores += [f"{name}_std" for name in scores if evaluation.get(f"{name}_std") is not None]
    for key in ("num_scenes", *scores):
        value = evaluation.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UserError(f"`{key}` must be a number")


def literal(text):
    """Returns text such that Markdown shows it as it is, on one line."""
    escaped = re.sub(r"([\\`*{}\[\]<>#|~$&!^=+-])", r"\\\1", _one_line(text))
    # Between letters, a line below is no emphasis; such names stay readable in the source.
    escaped = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\_", escaped)
    return re.sub(r"(?<=[A-Za-z0-9])\\([-=+])(?=[A-Za-z0-9])", r"\1", escaped)


def _code(text):
    """Returns text as a code span."""
    text = _one_line(text)
    if "`" not in text:
        return f"`{text}`"
    ticks = "`" * (_longest_run(text) + 1)
    return f"{ticks} {text} {ticks}"


def _fence(text):
    """Returns the fence of a code block that contains `text`."""
    return "`" * max(3, _longest_run(text) + 1)


def _longest_run(text):
    return max(map(len, re.findall("`+", text)), default=0)


def _one_line(text):
    return "".join(c if c.isprintable() else " " for c in str(text))


def _string(text):
    """Returns text as a literal of Python, which that of JSON is."""
    return json.dumps(text, ensure_ascii=False)


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
