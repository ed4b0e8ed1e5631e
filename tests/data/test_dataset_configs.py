import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from lightning_nas.errors import DataError

FILES = sorted((Path(__file__).parents[2] / "conf" / "dataset").glob("*.yaml"))


def compose(file):
    content = OmegaConf.load(file)
    content.pop("defaults", None)  # Hydra's
    return OmegaConf.create({"seed": 3, "dataset": content}).dataset


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_has_the_keys_and_the_defaults_of_its_constructor(file):
    config = compose(file)
    parameters = inspect.signature(get_class(config["_target_"])).parameters
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    assert all(parameter.annotation is not parameter.empty for parameter in parameters.values())
    own_test = {"test_fraction"} if "vision" in config["_target_"] or file.stem in ("imagenet", "tiny") else set()
    assert set(config) - {"_target_"} == set(parameters) - own_test
    defaults = {name: list(d) if isinstance(d := parameters[name].default, tuple) else d for name in parameters}
    plain = {
        name: value
        for name, value in OmegaConf.to_container(OmegaConf.load(file)).items()
        if name in defaults and name != "seed"
    }
    assert plain == {name: defaults[name] for name in plain}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_data_set_is_made_without_arguments(file):
    made, configured = get_class(compose(file)["_target_"])(), instantiate(compose(file), seed=0)
    kept = {name: value for name, value in vars(made).items() if isinstance(value, (int, float, str, list, type(None)))}
    assert kept == {name: getattr(configured, name) for name in kept}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_loads_or_says_what_it_needs(file):
    data = instantiate(compose(file))
    assert data.seed == 3
    if file.stem == "digits":
        data.setup()
        assert (data.shape, data.num_classes) == ((1, 8, 8), 10)
    elif file.stem == "digit_scenes":
        data.setup()
        assert (data.shape, data.num_classes, data.sizes["test"]) == ((1, 32, 32), 11, 160)
    elif file.stem == "text":
        data.setup()
        assert (data.shape, data.num_classes) == ((20,), 1000)
    else:
        with pytest.raises(DataError, match=r"dataset\.(root|path)=(FOLDER|FILE)"):
            data.setup()
