import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

FILES = sorted((Path(__file__).parents[2] / "conf" / "task").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_has_the_keys_and_the_defaults_of_its_constructor(file: Path) -> None:
    content = OmegaConf.load(file)
    parameters = inspect.signature(get_class(content.pop("_target_"))).parameters
    assert OmegaConf.to_container(content) == {name: parameter.default for name, parameter in parameters.items()}
