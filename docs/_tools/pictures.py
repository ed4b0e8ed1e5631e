"""Draw the search spaces again: ``python docs/_tools/pictures.py``.

Writes ``docs/spaces/*.svg`` with the report's own drawing code: a published architecture where the zoo has one, else
one drawn with seed 0. The same code gives the same files.
"""

import warnings
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from matplotlib import rc_context
from matplotlib.figure import Figure

from lightning_nas import zoo
from lightning_nas.architecture import Architecture
from lightning_nas.report.cell_drawing import cell_drawing
from lightning_nas.report.drawing import network_drawing
from lightning_nas.report.theme import COLORS
from lightning_nas.spaces.base import SearchSpace

FOLDER = Path(__file__).parents[1] / "spaces"
# name of the picture: an architecture of the zoo, and the cell to draw (None: the whole network)
PUBLISHED: dict[str, tuple[str, str | None]] = {
    "fbnet": ("fbnet_c", None),
    "proxyless": ("proxyless_mobile", None),
    "spos_shufflenet": ("spos", None),
    "hardcore": ("hardcorenas_c", None),
    "attentive_nas": ("attentive_nas_a0", None),
    "mnasnet": ("mnasnet_a1", None),
    "autoformer": ("autoformer_t", None),
    "dpc": ("dpc_cityscapes", "cell"),
    "darts": ("darts_v2", "normal cell"),
    "nasbench201": ("nasbench201_resnet", "cell"),
    "enas_micro": ("enas_micro", "normal cell"),
    "nasnet": ("nasnet_a_cifar", "normal cell"),
    "pnas": ("pnasnet5_cifar", "cell"),
    "darts_rnn": ("darts_v2_ptb", "recurrent cell"),
    "enas_rnn": ("enas_ptb", "recurrent cell"),
    "nas_rl_rnn": ("nascell", "recurrent cell"),
}
# nothing of these is in the zoo: name of the picture and preset of the space it is drawn from, with seed 0
DRAWN = {
    "enas_macro": "enas_macro_small",
    "nas_rl_cnn": "nas_rl_cnn_small",
    "block_qnn": "block_qnn_small",
    "eas": "eas_small",
}


def main() -> None:
    """Draw and save every picture."""
    for name, (published, cell) in PUBLISHED.items():
        save(picture(zoo.space(published), zoo.load(published), cell), FOLDER / f"{name}.svg")
    for name, preset in DRAWN.items():
        space = make(preset)
        save(picture(space, space.sample(torch.Generator().manual_seed(0))), FOLDER / f"{name}.svg")


def picture(space: SearchSpace, architecture: Architecture, cell: str | None = None) -> Figure:
    """The drawing of an architecture, whole or one of its cells."""
    return cell_drawing(space.cell_graphs(architecture)[cell]) if cell else network_drawing(space.graph(architecture))


def make(preset: str) -> SearchSpace:
    """The space of a preset of ``conf/search_space``, in the sizes of the digits."""
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        config = compose("config", overrides=[f"search_space={preset}", "paths.output=."])
    space: SearchSpace = instantiate(config.search_space)
    return space


def save(figure: Figure, path: Path) -> None:
    """The figure as SVG with letters that stay letters, on the page's own background."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, format="svg", facecolor=COLORS["surface"][0], metadata={"Date": None})


if __name__ == "__main__":
    main()
