"""Every number of every preset has a range, and what no run can have is refused before anything is made of it."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
import yaml
from annotated_types import Ge, Gt, Interval, Le, Lt
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lightning_nas.cli.config import bounds
from lightning_nas.cli.config.bounds import MOST_VALUES, check_file
from lightning_nas.cli.config.composing import guarded
from lightning_nas.cli.config.limits import limit
from lightning_nas.cli.config.models import MODEL
from lightning_nas.cli.config.plain import plain, walk
from lightning_nas.cli.config.signature import Argument, signature
from lightning_nas.cli.config.targets import full_name, resolve
from lightning_nas.errors import ConfigError
from lightning_nas.experiment import memory
from lightning_nas.experiment.memory import within_memory
from lightning_nas.kinds import kind
from lightning_nas.processes import machine_memory
from lightning_nas.spaces.chains.fbnet import FBNetSpace

CONF = Path(__file__).parents[3] / "conf"
OWN = "lightning_nas.cli.sweep"
# refused where another key serves; a name
WITHOUT = {"gradient_clip_val", "version"}


def arguments() -> Iterator[tuple[str, str, Argument]]:
    """The constructors of all presets: the full name of the class, an argument, and how it is annotated."""
    texts = [yaml.safe_load(file.read_text()) for file in CONF.rglob("*.yaml")]
    targets = {value for text in texts for key, value in walk(text) if key.endswith("_target_")}
    for target in sorted(targets):
        key = f"{MODEL}._target_" if target.startswith("torchvision.models.") else "k"
        made = resolve(target, key, [OWN])
        for name, argument in signature(made).arguments.items():
            yield full_name(made), name, argument


ARGUMENTS = list(arguments())


def legal(defined: str, name: str, argument: Argument) -> Any:
    own = limit(defined, name)
    return argument.annotation if own is Any else own


def numbers(annotation: Any) -> Iterator[tuple[type, list[Any]]]:
    """The numbers that an annotation accepts at any depth, each with its bounds; none of a function's."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated and inner[0] in (int, float):
        marks = [mark for data in inner[1:] for mark in (data, *getattr(data, "metadata", ()))]
        yield inner[0], [mark for mark in marks if isinstance(mark, (Ge, Gt, Le, Lt, Interval))]
    elif annotation in (int, float):
        yield annotation, []
    elif origin is not Literal and origin is not Callable:
        for part in inner:
            yield from numbers(part)


def test_every_number_of_every_preset_has_a_range() -> None:
    found = 0
    for defined, name, argument in ARGUMENTS:
        for _, marks in numbers(legal(defined, name, argument)):
            found += 1
            assert marks or name in WITHOUT, f"{defined}: {name}: {argument.annotation} has no range"
    assert found > 500


HOSTILE = [math.nan, math.inf, -math.inf, -(10**9), -1e300, "3", [], [[]], {}, [None], [-(10**9)], [math.nan] * 3]


def test_no_numeric_key_takes_a_hostile_value() -> None:
    for defined, name, argument in ARGUMENTS:
        annotation = legal(defined, name, argument)
        kinds = {number for number, _ in numbers(annotation)}
        if not kinds or name in WITHOUT or get_origin(annotation) not in (None, Annotated):
            continue
        accepts = kind(annotation).accepts
        for value in HOSTILE:
            assert not accepts(value), (defined, name, value)
        assert not accepts(True), (defined, name)
        assert float in kinds or not accepts(1.5), (defined, name)


@pytest.mark.parametrize(
    "sizes",
    [
        {"stages": [(1 << 16, 200, 1)] * 3},
        {"head": 1 << 16, "num_classes": 10**9},
        {"in_channels": 1 << 16, "stem": (1 << 16, 2)},
    ],
)
def test_a_supernet_beyond_the_memory_is_refused_at_once(sizes: dict[str, Any]) -> None:
    space = FBNetSpace(**{"image_size": 8, "in_channels": 1, "num_classes": 10, **sizes})
    began = time.process_time()
    with pytest.raises(
        ConfigError,
        match=r"this supernet (needs at least .* GB|has sizes beyond what can be counted).* here are .*8 GB",
    ):
        within_memory("this supernet", space.supernet, memory=8_000_000_000)
    assert time.process_time() - began < 60


def test_memory_needed_is_four_times_that_of_the_parameters() -> None:
    space = FBNetSpace(image_size=8, in_channels=1, num_classes=10, stages=[(16, 1, 1)], stem=(16, 1), head=32)
    supernet = space.supernet()
    needed = 4 * sum(parameter.numel() * parameter.element_size() for parameter in supernet.parameters())
    assert within_memory("it", space.supernet, memory=needed) is not None
    with pytest.raises(ConfigError, match="it needs at least"):
        within_memory("it", space.supernet, memory=needed - 1)
    assert 1e9 < machine_memory() < 1e14


def test_a_large_supernet_is_the_same_whether_it_was_counted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    space = FBNetSpace(image_size=8, in_channels=1, num_classes=10, stages=[(16, 1, 1)], stem=(16, 1), head=32)
    torch.manual_seed(0)
    expected, following = space.supernet().state_dict(), torch.rand(3)
    monkeypatch.setattr(memory, "_AT_ONCE", 1000)
    torch.manual_seed(0)
    found = within_memory("it", space.supernet).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    assert torch.equal(torch.rand(3), following)


def test_interpolations_that_come_to_much_are_refused() -> None:
    config = OmegaConf.create({"a": "x" * 100_000, "b": ["x${a}"] * 11})
    with pytest.raises(ConfigError, match=r"more than 1,000,000 characters"):
        plain(config)


def doubling(text: str, times: int = 60) -> str:
    return "a0: x\n" + "".join(text.replace("N", str(i + 1)).replace("M", str(i)) + "\n" for i in range(times))


@pytest.mark.parametrize("line", ["aN: ${aM}${aM}", "aN: ['${aM}', '${aM}']", "aN: ${oc.select:aM}${oc.select:aM}"])
def test_interpolations_that_double_end_in_one_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STEPS", 200)
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"interpolations double"):
        plain(OmegaConf.create(doubling(line)))
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    "text",
    [
        doubling("aN: &aN [*aM, *aM]").replace("a0: x", "a0: &a0 x"),
        "a: " + "[" * 2000 + "]" * 2000,
        "a: [" + "0, " * (MOST_VALUES + 1) + "]",
        "a: " + "x" * 1_000_001,
    ],
    ids=["aliases", "deep", "many", "large"],
)
def test_a_file_that_is_a_bomb_is_refused_unread(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        check_file(file)


@pytest.mark.parametrize(
    "text",
    [
        doubling("aN: &aN [*aM, *aM]").replace("a0: x", "a0: &a0 x"),
        doubling("aN: ${aM}${aM}") + "hydra: {run: {dir: '${a60}'}}",
        doubling("aN: ${aM}${aM}") + "hydra: {job_logging: {formatters: {simple: {format: '${a60}'}}}}",
        "a: " + "[" * 900 + "]" * 900,
    ],
    ids=["aliases", "folder", "logging", "deep"],
)
def test_composing_ends_with_a_bomb(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_STEPS", 200)
    (tmp_path / "config.yaml").write_text(f"trusted_modules: []\n{text}")
    with guarded(), initialize_config_dir(str(tmp_path), version_base="1.3"), pytest.raises(ConfigError):
        compose("config", return_hydra_config=True)


def test_the_library_s_own_files_are_no_bombs() -> None:
    for file in CONF.rglob("*.yaml"):
        check_file(file)
