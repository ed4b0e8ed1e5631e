"""The model card of a trained network: a README in the form of model hubs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch

from lightning_nas import __version__
from lightning_nas.export.trained import Trained
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.report.quantities import accuracy, inherited, latency, scores

_TEXT = """\
---
library_name: pytorch
{task}tags: [neural-architecture-search, lightning_nas]
---

# A network of the search space {space}

{made} from {start}{dataset} by lightning_nas {version}.

| | |
|---|---|
{figures}

## Input

{about_input} What turns a picture or a text into it:

```json
{preprocessing}
```

{outputs}, in the order of the output: {classes}

## Use

```python
{use}
```

`lightning-nas export RUN formats=[py]` writes the same network as one Python file that needs torch alone.

## Architecture

| decision | option |
|---|---|
{choices}

## Cite

```bibtex
@software{{lightning_nas, title = {{lightning_nas: neural architecture search as a PyTorch Lightning plug-in}},
  author = {{The lightning_nas authors}}, version = {{{version}}}}}
```

Cite the paper of the search method, too: its page in the documentation of lightning_nas names it.
"""
_SEGMENTATION = "image-segmentation"
_TAGS = {True: "text-generation", False: "image-classification"}
_OUTPUTS = {
    "classes": "Classes",
    "words": "Classes",
    "labels": "Labels, each with a logit of its own",
    "masks": "Classes of each pixel, logits (N, classes, h, w) to be resized to the image",
    "numbers": "Numbers, standardised (times `target_std` plus `target_mean` they are in the unit of the targets)",
}
_USE = """\
import lightning_nas as ln
from safetensors.torch import load_file

network = {network}.eval()
network.load_state_dict(load_file("model.safetensors"))"""
_BUILT = 'ln.zoo.network("config.json")'
_OWN = 'SPACE.evaluation().network(ln.Architecture.load("config.json"))'  # of a space of a person's own


def model_card(trained: Trained, result: Mapping[str, Any]) -> str:
    """The text of ``README.md``: the figures, the input, how the network was found and how to cite.

    Args:
        trained: the network.
        result: the content of the run's ``result.json``, as far as there is one.
    """
    known, architecture = trained.preprocessing, trained.architecture
    is_text = len(known.input_shape) == 1
    dtype = torch.int64 if is_text else torch.float32
    said = {**result, **trained.figures}
    rows = {
        "test accuracy": accuracy(said),
        **scores(said),
        "test perplexity": said.get("test_ppl"),
        "before training": inherited(said),
        "parameters": f"{count_params(trained.network):,}",
        "multiply-adds of one input": f"{count_macs(trained.network, tuple(known.input_shape), dtype):,}",
        "latency": latency(said),
        "search": _seconds(said.get("search_seconds")),
        "training": _seconds(said.get("retrain_seconds")),
        "seed": said.get("seed"),
    }
    shape = " x ".join(map(str, known.input_shape))
    tag = _SEGMENTATION if known.outputs == "masks" else _TAGS[is_text]
    strategy, dataset = said.get("strategy"), said.get("dataset")
    return _TEXT.format(
        task="" if known.outputs == "numbers" else f"pipeline_tag: {tag}\n",
        outputs=_OUTPUTS[known.outputs],
        space=architecture.space,
        made=f"Found by the strategy {strategy} and trained" if strategy else "Trained",
        start="scratch" if inherited(said) is None else "inherited weights",
        dataset=f" on {dataset}" if dataset else "",
        version=__version__,
        figures="\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None),
        about_input=f"{'Words' if is_text else 'Images'}: batch x {shape}.",
        preprocessing=json.dumps(known.model_dump(mode="json", exclude={"classes"}), indent=2),
        classes=", ".join(known.classes[:100]) + (", ..." if len(known.classes) > 100 else ""),
        use=_USE.format(network=_BUILT if trained.sizes else _OWN),
        choices="\n".join(f"| {decision} | {option} |" for decision, option in architecture.choices),
    )


def _seconds(value: Any) -> str | None:
    return None if value is None else f"{value:,.0f} s"
