"""Every published network, and an answer of every preset, exported in every format and compared with its network.

    python benchmarks/exports.py [NAME ...] [--formats py,torch,onnx,safetensors] [--pixels 64] [--out FILE]

Names are those of the zoo and ``preset:NAME`` for the network that retraining would train of a search space's first
random architecture (for CIFAR-10's sizes); all by default. Weights are fresh, running statistics of batch norms random.
Each network has a process of its own. A line for each says the differences as ``export.json`` does: of the largest
output, and at least of 1; limits are 0 for py and safetensors, 1e-6 for torch, 1e-5 for onnx. Lines are added to FILE
as JSON, and names that are in it already are left out.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import campaign

if TYPE_CHECKING:
    from torch import nn

    from lightning_nas.architecture import Architecture
    from lightning_nas.spaces.base import SearchSpace

FORMATS = "py,safetensors,torch,onnx"


def main() -> None:
    parser = campaign.parser(__doc__, [], seconds=600.0)
    parser.add_argument("--formats", default=FORMATS)
    parser.add_argument("--pixels", type=int, help="side of the images, where the published one is larger")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(exported(options.names[0], options.formats.split(","), options.pixels)))
        return
    pixels = ["--pixels", str(options.pixels)] if options.pixels else []
    campaign.run(options, options.names or every_name(), lambda _: ["--formats", options.formats, *pixels], in_words)


def every_name() -> list[str]:
    from lightning_nas import zoo
    from lightning_nas.cli import presets

    return [*(f"preset:{name}" for name in presets.names("search_space")), *zoo.names()]


def in_words(row: dict[str, object]) -> str:
    if "error" in row:
        return f"{row['name']:<28} {row['seconds']:>6} s  FAILED {row['error']}"
    files: dict[str, dict[str, float]] = row["files"]
    said = [f"{kind} {one['difference']:.1e} {one['bytes'] / 1e6:.2f} MB" for kind, one in files.items()]
    return f"{row['name']:<28} {row['seconds']:>6} s  {', '.join(said)}"


def exported(name: str, formats: list[str], pixels: int | None) -> dict[str, object]:
    """Differences, bytes and milliseconds of each format."""
    import torch

    from lightning_nas.data.preprocessing import Preprocessing
    from lightning_nas.export.trained import Trained
    from lightning_nas.export.write import export_trained

    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    space, architecture, network = made(name)
    for part, value in network.named_buffers():
        if part.endswith("running_mean"):
            value.normal_(std=0.1, generator=rng)
        elif part.endswith("running_var"):
            value.uniform_(0.5, 2, generator=rng)
    shape = list(space.input_shape)
    if pixels and len(shape) == 3:
        shape[1:] = [min(pixels, side) for side in shape[1:]]
    known = Preprocessing(
        kind="images" if len(shape) == 3 else "text", input_shape=shape, classes=[f"class {i}" for i in range(10)]
    )
    with tempfile.TemporaryDirectory() as folder:
        record = export_trained(Trained(network.eval(), architecture, None, known, {}), Path(folder), formats)
    files = {
        said["format"]: {key: said[key] for key in ("difference", "bytes", "latency_ms")}
        for said in record["files"].values()
    }
    return {"input": shape, "latency_ms": record["latency_ms"], "files": files}


def made(name: str) -> tuple[SearchSpace, Architecture, nn.Module]:
    """A space, an architecture, and its network with fresh weights for 10 classes or words."""
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from lightning_nas import zoo
    from lightning_nas.cli import presets

    preset = name.removeprefix("preset:")
    if preset == name:
        return zoo.space(name, 10), zoo.load(name), zoo.network(name, 10)
    config = OmegaConf.load(presets.files("search_space")[preset])
    config.pop("defaults", None)
    dataset = {"image_size": 32, "channels": 3, "num_classes": 10}
    if preset != "from_model":  # which with text is a language model
        dataset["bptt"] = 20
    space = instantiate(OmegaConf.create({"dataset": dataset, "space": config}).space)
    architecture = space.sample(torch.Generator().manual_seed(0))
    home = space.evaluation()
    return home, architecture, home.network(architecture)


if __name__ == "__main__":
    main()
