"""The README beside an exported model, written from its metadata."""

HEADLINE_SCORES = ("fg_ari", "fg_ari_frame", "ari", "msc", "miou", "aiou", "dpa_30", "mse", "psnr")
"""Metric names of `evaluation.json` that cards and the model index show, in this order."""

_DESCRIPTIONS = {
    "serving_default": "{what}s -> everything, with the defaults below",
    "serving_float": "the same for float {what}s in [0, 1]",
    "decompose": "the same with every option as an input",
    "segment": "pictures -> segmentation alone: small answers",
    "encode": "pictures -> latents",
    "decode": "latents -> rendered scene at the model's size, for editing",
    "sample": "scenes drawn from the prior, at the model's size",
    "init_state": "what a stream of frames begins with",
    "step": "state and next frames -> state, and everything about these frames",
    "imagine": "state -> state, and everything about a frame that nobody has seen, at the model's size",
}


def render(metadata):
    """Returns the card of an exported model as Markdown.

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
    experiment = metadata["experiment"] or {}
    height, width = metadata["image_size"]
    colour = "RGB" if metadata["channels"] == 3 else "gray"
    what = _what(metadata)
    rows = [
        (
            "model",
            f"{experiment.get('model_name', metadata['model'])}, {metadata['parameters']:,} parameters",
        ),
        (
            "works on",
            f"{height} x {width} {colour} {what}s; others are stretched to this size, results come back at theirs",
        ),
        (
            "defaults",
            f"{metadata['num_slots']} slots, {metadata['num_steps']} inference steps, seed 0",
        ),
    ]
    if experiment:
        train = experiment["train"]
        rows.append(
            (
                "trained",
                f"preset {experiment['preset']}, seed {experiment['seed']}, {train['steps']:,} steps of "
                f"{train['batch_size']} {_unit(metadata)} of `{experiment['data']['protocol']}`",
            )
        )
    rows.append(
        (
            "made with",
            ", ".join(f"{name} {version}" for name, version in metadata["software"].items()),
        )
    )
    return "\n".join(
        [
            f"# {metadata['name']}, version {metadata['version']}",
            "",
            f"Takes a {what} apart into its objects without labels: a mask, an appearance and a latent vector for each.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {text} |" for name, text in rows),
        ]
    )


def _what(metadata):
    return "video" if metadata.get("is_video") else "picture"


def _unit(metadata):
    return "clips" if metadata.get("is_video") else "scenes"


def _scores(metadata):
    evaluation = metadata["evaluation"]
    if not evaluation:
        return "## Scores\n\nNot evaluated."
    known = [
        name
        for name in ("num_frames", "num_slots", "num_steps", "step", "inference_seed")
        if name in evaluation
    ]
    facts = ", ".join(f"{name.replace('_', ' ')} {evaluation[name]}" for name in known)
    lines = [
        "## Scores",
        "",
        f"{evaluation['num_scenes']} {_unit(metadata)}: {evaluation['protocol']}; {facts}.",
        "",
        "| metric | mean | std over scenes |",
        "|---|---|---|",
    ]
    for name in HEADLINE_SCORES:
        if evaluation.get(name) is not None:
            lines.append(
                f"| {name} | {_number(evaluation[name])} | {_number(evaluation.get(f'{name}_std'))} |"
            )
    return "\n".join(lines)


def _signatures(metadata):
    lines = [
        "## Signatures",
        "",
        f"B {'clips of T frames' if metadata.get('is_video') else 'pictures'} of H x W pixels, K slots, D = {metadata['slot_size']} latents per slot; "
        "`?` is free.",
        "",
        "| signature | what | inputs | outputs |",
        "|---|---|---|---|",
    ]
    for name, signature in metadata["signatures"].items():
        cells = [
            ", ".join(f"`{key}` {_spec(spec)}" for key, spec in signature[side].items())
            for side in ("inputs", "outputs")
        ]
        lines.append(
            f"| `{name}` | {_DESCRIPTIONS[name].format(what=_what(metadata))} | {cells[0]} | {cells[1]} |"
        )
    return "\n".join(lines)


def _use_of_clips(metadata):
    name, channels, num_slots = metadata["name"], metadata["channels"], metadata["num_slots"]
    return f"""## Use

TensorFlow is all that it needs. Whole clips:

```python
import tensorflow as tf
model = tf.saved_model.load("{name}/{metadata["version"]}")
result = model.decompose(video)                                  # uint8, or float32 in [0, 1], [B, T, H, W, {channels}]
result = model.decompose(video, num_slots={num_slots}, seed=1)
```

Frame by frame, with the same numbers. The server keeps nothing: send back the `state_*` that came.

```python
state = model.init_state(batch=1, num_slots={num_slots}, seed=0)
for image in frames:                                             # [1, H, W, {channels}]
    result = model.step(image, **state)
    state = {{key: value for key, value in result.items() if key.startswith("state_")}}
    segmentation = result["segmentation"]                        # [1, H, W], the slot of every pixel; a slot stays with its object
future = model.imagine(**state)                                  # the next frame, predicted; its state goes on from there
```

TensorFlow Serving, `{name}/` being the folder of this file:

```
docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/{name}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
```"""


def _use(metadata):
    if metadata.get("is_video"):
        return _use_of_clips(metadata)
    name = metadata["name"]
    prior = (
        "\nscene = model.sample(num=1, seed=3)                              # from the prior"
        if metadata["has_prior"]
        else ""
    )
    return (
        f"""## Use

TensorFlow is all that it needs:

```python
import tensorflow as tf
model = tf.saved_model.load("{name}/{metadata["version"]}")
result = model.decompose(images)                                 # uint8, or float32 in [0, 1], [B, H, W, {metadata["channels"]}]
result = model.decompose(images, num_slots={metadata["num_slots"]}, num_steps={metadata["num_steps"]}, seed=1)
scene = model.decode(result["slots"])                            # edit the latents in between (tfobj: launch/edit.py){prior}
```

TensorFlow Serving, `{name}/` being the folder of this file:

```
docker run --rm -p 8500:8500 -p 8501:8501 -v "$PWD/{name}:/models/{name}" -e MODEL_NAME={name} tensorflow/serving
```

```python
import json, urllib.request
body = json.dumps({{"signature_name": "segment", "instances": images.tolist()}}).encode()      # uint8 [B, H, W, {metadata["channels"]}]
answer = urllib.request.urlopen("http://localhost:8501/v1/models/{name}:predict", body)
segmentation = json.load(answer)["predictions"]                  # [B][H][W], the slot of every pixel
```

Options go in columns: `{{"signature_name": "decompose", "inputs": {{"image": ..., "num_slots": {metadata["num_slots"]}, """
        f""""num_steps": {metadata["num_steps"]}, "seed": 0}}}}`.
JSON is slow for pictures; gRPC (port 8500) carries them as bytes and its `output_filter` leaves out what is not wanted."""
    )


def _limits(metadata):
    limits = metadata["limits"]
    rows = [
        f"- {text}: {_range(limits[key])}"
        for key, text in (
            ("side", "height and width in pixels"),
            ("num_slots", "`num_slots`"),
            ("num_steps", "`num_steps`"),
        )
    ]
    return "\n".join(
        [
            "## Limits",
            "",
            *rows,
            "- Values out of range, pixels that are not finite and empty batches are answered with an error that says what was expected.",
            "- A picture whose shape is not that of the model's is distorted on the way in; cut or pad it first if that matters.",
            "- A scene's noise depends on `seed` and on its place in the batch: the same picture at another place may get its "
            "objects in another order of slots.",
            "- The model knows the kind of pictures it was trained on; on others, masks are not to be trusted. "
            "`recon` and `slot_recons` may leave [0, 1] slightly.",
        ]
    )


def _range(bounds):
    least, greatest = bounds
    return f"{least} (fixed)" if least == greatest else f"{least} ... {greatest}"


def _spec(spec):
    shape = ", ".join("?" if size is None else str(size) for size in spec["shape"])
    return f"{spec['dtype']} [{shape}]"


def _number(value):
    return "" if value is None else f"{value:.4g}"
