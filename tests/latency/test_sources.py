import inspect
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from lightning_nas.errors import InputError, LatencyTableError
from lightning_nas.latency import sources, torch_device
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.measurement import Measurement
from lightning_nas.latency.sources import File, Macs, Measured, NoTable, Params
from lightning_nas.latency.table import Conditions, Entry, LatencyTable, Steadiness
from lightning_nas.latency.torch_device import device_description
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace

YAMLS = sorted((Path(__file__).parents[2] / "conf" / "latency_table").glob("*.yaml"))


QUIET = Steadiness(rounds=9, spread=0.02, unstable=0.0, drift=0.01, waiting=0.0)
BUSY = Steadiness(rounds=18, spread=0.02, unstable=0.0, drift=0.01, waiting=0.4)


@pytest.fixture
def runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Conditions]:
    """The measurements that were asked for; each takes no time and finds 1 ms."""
    seen: list[Conditions] = []

    def instead(space: SearchSpace, asked: Measurement) -> LatencyTable:
        conditions = asked.conditions
        seen.append(conditions)
        entries = dict.fromkeys(space.operations(), Entry(median=1.0, iqr=0.0))
        facts = {"device": device_description("cpu"), "space": space.name, "space_digest": space.digest}
        steadiness = BUSY if len(seen) == busy_until else QUIET
        return LatencyTable(unit="ms", conditions=conditions, steadiness=steadiness, entries=entries, **facts)

    busy_until = 1 if getattr(request, "param", None) == "busy" else 0
    monkeypatch.setattr(sources, "measure_space", instead)
    return seen


@pytest.mark.parametrize("runs", ["busy"], indirect=True)
@pytest.mark.parametrize("named", [True, False])
def test_a_table_of_a_busy_machine_is_used_and_not_kept(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions], named: bool
) -> None:
    source = Measured(str(tmp_path), path=str(tmp_path / "mine.json") if named else None)
    table = source(space)
    assert not table.steadiness.steady
    assert not list(tmp_path.iterdir())
    assert source(space).steadiness.steady  # the machine is idle again
    assert source(space) == source(space)
    assert (len(runs), len(list(tmp_path.iterdir()))) == (2, 1)


def test_a_space_is_measured_once(space: FBNetSpace, tmp_path: Path, runs: list[Conditions]) -> None:
    first = Measured(str(tmp_path))(space)
    assert Measured(str(tmp_path))(space) == first
    assert len(runs) == 1


@pytest.mark.parametrize(
    "change", [{"threads": 2}, {"batch_size": 2}, {"dtype": "bfloat16"}, {"memory_format": "contiguous"}]
)
def test_other_conditions_have_another_file(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions], change: dict[str, Any]
) -> None:
    Measured(str(tmp_path))(space)
    table = Measured(str(tmp_path), **change)(space)
    assert table.conditions == Conditions(**change)
    assert len(list(tmp_path.iterdir())) == len(runs) == 2


def test_another_device_has_another_file(space: FBNetSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Measured(str(tmp_path)).file(space)
    monkeypatch.setattr(torch_device, "device_description", lambda _: "elsewhere")
    assert Measured(str(tmp_path)).file(space) != here


def test_a_table_of_another_way_to_measure_is_not_used(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions], monkeypatch: pytest.MonkeyPatch
) -> None:
    Measured(str(tmp_path))(space)
    monkeypatch.setattr(sources, "METHOD", sources.METHOD + 1)
    Measured(str(tmp_path))(space)
    assert len(list(tmp_path.iterdir())) == len(runs) == 2


def test_the_cache_stays_in_its_folder_whatever_the_space_is_called(tmp_path: Path) -> None:
    space = FBNetSpace("../../x/\n", image_size=8, num_classes=2, stem=(4, 1), stages=[(4, 1, 1)], head=4)
    assert Measured(str(tmp_path)).file(space).parent == tmp_path


@pytest.mark.parametrize("damage", ["", "{}", "noise"])
def test_a_damaged_cache_is_measured_again(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    source = Measured(str(tmp_path))
    source.file(space).write_text(damage)
    with caplog.at_level(logging.WARNING):
        table = source(space)
    assert "measuring again" in caplog.text
    assert LatencyTable.load(source.file(space)) == table


def test_a_damaged_file_of_the_users_is_an_error_and_stays(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions]
) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    with pytest.raises(LatencyTableError, match=r"mine\.json"):
        Measured(str(tmp_path), path=str(mine))(space)
    assert mine.read_text() == "{}"
    assert not runs


def test_a_named_file_is_written_once_and_holds_its_conditions(
    space: FBNetSpace, tmp_path: Path, runs: list[Conditions]
) -> None:
    mine = str(tmp_path / "mine.json")
    table = Measured(str(tmp_path), path=mine)(space)
    assert Measured(str(tmp_path), path=mine)(space) == File(mine)(space) == table
    assert len(runs) == 1
    with pytest.raises(LatencyTableError, match="latency_table=file"):
        Measured(str(tmp_path), path=mine, threads=2)(space)
    table.model_copy(update={"device": "elsewhere"}).save(mine)
    with pytest.raises(LatencyTableError, match="elsewhere"):
        Measured(str(tmp_path), path=mine)(space)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"threads": 0}, {"threads": True}, {"batch_size": -1}, {"dtype": "int8"}, {"memory_format": "x"}),
        *({"min_run_time": 0.0}, {"min_run_time": float("nan")}, {"device": "tpu"}),
    ],
)
def test_illegal_conditions_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(LatencyTableError, match=f"latency_table: {next(iter(wrong))}"):
        Measured("", **wrong)


def test_a_file_must_be_named(space: FBNetSpace) -> None:
    with pytest.raises(LatencyTableError, match=r"latency_table\.path="):
        File(None)(space)


@pytest.mark.parametrize("seed", range(5))
def test_counts_add_up_to_those_of_the_whole_network(space: FBNetSpace, seed: int) -> None:
    architecture = space.sample(torch.Generator().manual_seed(seed))
    network = space.network(architecture)
    assert space.cost(architecture, Macs()(space)) == count_macs(network, space.input_shape)
    assert space.cost(architecture, Params()(space)) == count_params(network)


def test_counts_add_up_in_the_papers_space() -> None:
    space = FBNetSpace()
    architecture = space.sample(torch.Generator().manual_seed(0))
    network = space.network(architecture)
    assert space.cost(architecture, Params()(space)) == count_params(network)
    macs = {key: count_macs(op.build(), op.input_shape) for key, op in _used(space, architecture).items()}
    assert space.cost(architecture, macs) == count_macs(network, space.input_shape)


def _used(space: FBNetSpace, architecture: Any) -> dict[str, Any]:
    operations = space.operations()
    return {key: operations[key] for key in space.cost_keys(architecture)}


def test_counting_draws_no_random_number(space: FBNetSpace) -> None:
    state = torch.get_rng_state()
    Macs()(space)
    Params()(space)
    assert torch.get_rng_state().equal(state)


def test_no_table_is_none(space: FBNetSpace) -> None:
    assert NoTable()(space) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize("file", YAMLS, ids=lambda file: file.stem)
def test_each_yaml_spells_its_constructor_and_gives_a_source(file: Path, space: FBNetSpace, tmp_path: Path) -> None:
    node = OmegaConf.load(file)
    keys = set(node) - {"_target_"}
    assert keys == set(inspect.signature(get_class(node["_target_"])).parameters)
    config = OmegaConf.create({"paths": {"cache": str(tmp_path)}, "latency_table": node})
    source = instantiate(config.latency_table)
    if "path" in keys and "cache_dir" not in keys:
        with pytest.raises(InputError, match=r"latency_table\.path="):
            source(space)
    elif not isinstance(source, NoTable) and not isinstance(source, Measured):
        assert isinstance(source(space), LatencyTable)
