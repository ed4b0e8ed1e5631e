import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from lightning_nas.data.base import SearchData
from lightning_nas.errors import DataError

FILES = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))


def compose(file):
    content = OmegaConf.load(file)
    content.pop("defaults", None)  # Hydra's
    return OmegaConf.create({"seed": 3, "dataset": content}).dataset


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_spells_its_constructor_key_for_key(file):
    config = compose(file)
    classes = get_class(config["_target_"]).__mro__
    classes = classes[: classes.index(SearchData)]
    keys = {p.name for c in classes if "__init__" in vars(c) for p in inspect.signature(c.__init__).parameters.values()}
    own_test = {"test_fraction"} if "vision" in config["_target_"] or file.stem == "imagenet" else set()
    assert set(config) - {"_target_"} == keys - {"self", "options"} - own_test


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_loads_or_says_what_it_needs(file):
    data = instantiate(compose(file))
    assert data.seed == 3
    if file.stem == "digits":
        data.setup()
        assert (data.shape, data.num_classes) == ((1, 8, 8), 10)
    elif file.stem == "text":
        data.setup()
        assert (data.shape, data.num_classes) == ((20,), 1000)
    else:
        with pytest.raises(DataError, match=r"dataset\.(root|path)=(FOLDER|FILE)"):
            data.setup()
