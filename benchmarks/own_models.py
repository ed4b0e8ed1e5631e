"""Networks of torchvision and timm made searchable by ``ln.FromModel``, and checked against themselves.

    python benchmarks/own_models.py [NAME ...] [--pixels 64] [--samples 20] [--out FILE]

Names are those of ``torchvision.models``, or of timm as ``timm/NAME`` (``pip install timm``). Each network has fresh
weights and a process of its own. Compared are the original with the largest architecture, and the extracted network
with the active paths of the supernet, for the smallest, the middle and some random architectures; parameters and
multiply-adds are counted on the extracted networks and compared with the space's own. Seconds are those of the
processor, for the conversion on one thread. Lines are added to FILE as JSON, and names that are in it already are left
out.
"""

from __future__ import annotations

import json
import time
from typing import Any

import campaign

NAMES = [
    "alexnet",
    "vgg11_bn",
    "googlenet",
    "densenet121",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
    "inception_v3",
    "timm/resnet18",
    "timm/mobilenetv3_large_100",
    "timm/efficientnet_b0",
    "timm/hardcorenas_a",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
    "timm/deit_tiny_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/mixer_s32_224",
    "timm/repvgg_a0",
    "timm/regnety_004",
    "timm/mobilenetv4_conv_small",
    "timm/res2net50_26w_4s",
    "timm/ghostnet_100",
    "timm/poolformer_s12",
]
SIDES = {"vit_b_16": 224, "maxvit_t": 224, "inception_v3": 128}  # smaller ones are refused by the networks themselves
SIZED = ("swin", "vit", "deit", "mixer")  # of timm, which are told the size of the images


def main() -> None:
    parser = campaign.parser(__doc__, NAMES, seconds=900.0)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--samples", type=int, default=20)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(checked(options.names[0], options.pixels, options.samples)))
        return
    campaign.run(
        options,
        options.names,
        lambda name: ["--pixels", str(SIDES.get(name, options.pixels)), "--samples", str(options.samples)],
        lambda row: " ".join(f"{key}={value}" for key, value in row.items()),
        lambda row: not row.get("kept", False),
    )


def made(name: str, pixels: int) -> Any:
    """The network with fresh weights."""
    if name.startswith("timm/"):
        import timm

        sized = {"img_size": pixels} if any(kind in name for kind in SIZED) else {}
        return timm.create_model(name.removeprefix("timm/"), pretrained=False, **sized)
    import torchvision

    options = {"aux_logits": False, "init_weights": False} if name in {"googlenet", "inception_v3"} else {}
    return getattr(torchvision.models, name)(**options)


def checked(name: str, pixels: int, samples: int) -> dict[str, object]:
    """Differences, counts and seconds of one network."""
    import torch

    import lightning_nas as ln
    from lightning_nas.latency.macs import count_macs, count_params, count_space

    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = made(name, pixels).eval()
    images = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(0))
    began = time.process_time()
    space = ln.FromModel(module, (1, 3, pixels, pixels))
    seconds = time.process_time() - began
    supernet = space.supernet().eval()
    rng = [torch.Generator().manual_seed(seed) for seed in range(samples)]
    chosen = [space.largest, space.smallest, space.middle, *(space.sample(each) for each in rng)]
    params, macs = count_space(space, "params"), count_space(space, "MACs")
    apart, counts = 0.0, True
    with torch.no_grad():
        original = module(images)
        largest = (supernet(images, space.gates(space.largest)) - original).abs().max().item()
        for architecture in chosen:
            network = space.extract(supernet, architecture).eval()
            active = supernet(images, space.gates(architecture))
            apart = max(apart, (network(images) - active).abs().max().item())
            counts &= space.cost(architecture, params) == count_params(network)
            counts &= space.cost(architecture, macs) == count_macs(network, (3, pixels, pixels))
    keys = list(space.extract(supernet, space.largest).state_dict()) == list(module.state_dict())
    smallest = space.cost(space.smallest, params) / space.cost(space.largest, params)
    return {
        "kept": largest == apart == 0 and counts and keys,
        "decisions": len(space.decisions),
        "smallest": round(smallest, 3),
        "largest_minus_original": largest,
        "extracted_minus_active": apart,
        "counts": counts,
        "keys": keys,
        "fixed": len(space.fixed),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
