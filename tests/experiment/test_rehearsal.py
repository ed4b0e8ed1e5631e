"""Refusals by Lightning, an optimiser or a callback come before a run begins, not in the middle of it."""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, Timer
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.optim import ASGD, LBFGS, SGD, Muon, Optimizer, SparseAdam
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau

import lightning_nas as ln
from lightning_nas.cli.config.limits import trainer_problem
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.memory import kept_for_backward
from lightning_nas.experiment.rehearsal import check_batch, check_lengths, check_optimizers, check_training, rehearse
from lightning_nas.experiment.trainer import built, check_trainer
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.drnas import DrNAS
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import one_thread
from lightning_nas.training.network import NetworkTraining
from lightning_nas.trials.child import Child
from lightning_nas.trials.engines.serial import SerialEngine
from lightning_nas.trials.job import ObjectsJob

MEMORY = 10**9
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "num_sanity_val_steps": 0,
    **dict.fromkeys(("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(**{**QUIET, "log_every_n_steps": 1, **options})


def darts(**options: Any) -> DARTS:
    return DARTS(ToySpace(), arch_warmup_epochs=0, **options)


# -- the flags of the Trainer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "alternate"), [(4, "batch"), (11, "batch"), (20, "epoch")])
def test_max_steps_counts_batches_as_for_one_optimiser(limit: int, alternate: Any, tmp_path: Path) -> None:
    """Lightning's own count, of a module with one optimiser, is the reference."""
    data, options = ToyData(), {"max_epochs": 3, "max_steps": limit, "default_root_dir": tmp_path}
    space = ToySpace()
    one = NetworkTraining(space.network(space.best), Classification(), 4, seed=0, optimizer=partial(SGD, lr=0.1))
    made = trainer(**options)
    made.fit(one, datamodule=data)
    assert made.global_step == one.position == limit
    search = darts(alternate=alternate)
    trainer(**options, min_epochs=3).fit(search, datamodule=data)
    assert search.position == limit
    assert search.weights_steps + search.arch_steps == (2 if alternate == "batch" else 1) * limit


def test_a_search_that_ended_by_max_steps_is_over_when_resumed(tmp_path: Path) -> None:
    options = {"max_epochs": 3, "max_steps": 4, "default_root_dir": tmp_path}
    first, again = darts(), darts()
    made = trainer(**options)
    made.fit(first, datamodule=ToyData())
    made.save_checkpoint(tmp_path / "end.ckpt")
    trainer(**options).fit(again, datamodule=ToyData(), ckpt_path=tmp_path / "end.ckpt", weights_only=True)
    assert again.position == 4
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


class Seen(pl.Callback):
    """The batches of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[list[Tensor]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append([])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        parts = batch.values() if isinstance(batch, dict) else [batch]
        self.epochs[-1].append(torch.stack([y for _, y in parts]))


@pytest.mark.parametrize(("module", "repeats"), [("search", True), ("search", False), ("network", True)])
def test_overfit_batches_repeats_the_same_batches(module: str, repeats: bool, tmp_path: Path) -> None:
    space, seen = ToySpace(), Seen()
    network = partial(NetworkTraining, optimizer=partial(SGD, lr=0.1))
    made = darts() if module == "search" else network(space.network(space.best), Classification(), 4, seed=0)
    flag = {"overfit_batches": 2} if repeats else {"limit_train_batches": 2}
    trainer(max_epochs=3, callbacks=[seen], default_root_dir=tmp_path, **flag).fit(made, datamodule=ToyData())
    first, *others = seen.epochs
    assert len(first) == 2
    assert not torch.equal(*first)
    assert [all(map(torch.equal, first, other)) for other in others] == [repeats] * 2


FLAGS: list[tuple[dict[str, Any], str]] = [
    *(({"accelerator": name}, "legal here: auto, cpu") for name in ("gpu", "tpu", "nonsense")),
    *(({"devices": count}, "Lightning refuses its settings") for count in (0, -2, "many")),
    ({"profiler": "nonsense"}, "profiler"),
    ({"strategy": "nonsense"}, "nonsense"),
    ({"precision": "8-bit"}, "8-bit"),
    ({"limit_train_batches": 1.5}, "limit_train_batches"),
    ({"val_check_interval": 0.5, "check_val_every_n_epoch": None}, "val_check_interval"),
    ({"max_time": "soon"}, "soon"),
    ({"devices": 2}, "trainer=ddp"),
    ({"devices": 2, "strategy": "ddp"}, "trainer=ddp"),
]


@pytest.mark.parametrize(("flags", "words"), FLAGS, ids=str)
def test_a_trainer_that_cannot_work_is_one_line(flags: dict[str, Any], words: str) -> None:
    make = partial(pl.Trainer, **{"accelerator": "cpu", "devices": 1, "enable_checkpointing": False, **flags})
    with pytest.raises(ConfigError, match=words) as caught:
        check_trainer(make, [], trials=False)
    assert str(caught.value).isprintable()


def test_a_trainer_in_a_job_of_slurm_with_other_tasks_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NTASKS": "4", "NTASKS_PER_NODE": "4", "JOB_NAME": "x", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)  # no node: a shell inside of an allocation
    with pytest.raises(ConfigError, match="SLURM_NTASKS is set"):
        built(partial(pl.Trainer, accelerator="cpu", devices=2, strategy="ddp"), logger=False)


def test_every_flag_of_the_trainer_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "trainer.md").read_text()
    flags = set(pl.Trainer.__init__.__annotations__) - {"return"}
    assert {flag for flag in flags if f"`{flag}`" not in page} == set()
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    refused = {name.strip(" `") for names, verdict in rows if verdict.strip() == "refused" for name in names.split(",")}
    assert {flag for flag in refused if trainer_problem({flag: 3}) is None} == set()


@pytest.mark.parametrize("nothing", ["00:00:00:00", "0", {"minutes": 0}, {}])
def test_no_time_at_all_is_refused_as_a_duration(nothing: Any) -> None:
    """Lightning's timer is the reference: no time remains before it starts."""
    with suppress(MisconfigurationException, ValueError, TypeError):
        assert not Timer(timedelta(**nothing) if isinstance(nothing, dict) else nothing).time_remaining()
    assert trainer_problem({"max_time": nothing}) is not None
    for some in ("00:00:00:01", {"seconds": 1}):
        assert trainer_problem({"max_time": some}) is None


# -- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        {"limit_train_batches": 0.01},
        {"limit_train_batches": 0.02},
        {"limit_train_batches": 1},
        {"limit_val_batches": 0.01},
        {"limit_val_batches": 0},
        {"overfit_batches": 0.01},
        {"overfit_batches": 0.5},
        {"val_check_interval": 64},
        {"val_check_interval": 65},
        {"val_check_interval": 65, "check_val_every_n_epoch": None},
        {"val_check_interval": 5, "limit_train_batches": 4},
        {"val_check_interval": 5, "limit_train_batches": 4, "limit_val_batches": 0},
    ],
    ids=str,
)
def test_lengths_are_refused_as_lightning_refuses_them(flags: dict[str, Any], tmp_path: Path) -> None:
    """Lightning's demonstration model has 64 batches of each kind; it is the reference."""

    def refused(act: Callable[[], Any], *errors: type[Exception]) -> bool:
        try:
            act()
        except errors:
            return True
        return False

    made = trainer(max_epochs=1, max_steps=1, default_root_dir=tmp_path, **flags)
    theirs = refused(lambda: made.fit(BoringModel()), MisconfigurationException, ValueError)
    assert refused(lambda: check_lengths(made, 64, 64), ConfigError) == theirs


# -- optimisers, schedules, batches -----------------------------------------------------------------------------------

GOOD = partial(SGD, lr=0.1)


@pytest.mark.parametrize(
    ("make", "schedule", "words"),
    [
        (partial(SGD, lr=0.1, nesterov=True), None, "retrain.optimizer: .*Nesterov"),
        (partial(SparseAdam, lr=0.1), None, "retrain.optimizer: .*dense gradients"),
        (partial(Muon, lr=0.1), None, "retrain.optimizer: .*2D"),
        (GOOD, ReduceLROnPlateau, "retrain.scheduler: .*metrics"),
        (GOOD, partial(OneCycleLR, max_lr=1.0, total_steps=5), "retrain.scheduler: .*within 12 epochs"),
        (GOOD, partial(CosineAnnealingLR, T_max="x"), "retrain.scheduler"),
    ],
)
def test_what_cannot_train_is_refused(make: Any, schedule: Any, words: str) -> None:
    before = torch.get_rng_state()
    with pytest.raises(ConfigError, match=words):
        check_training("retrain.", make, schedule, 12)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_can_train_passes() -> None:
    passing: list[tuple[Callable[..., Optimizer], Any]] = [
        (GOOD, partial(OneCycleLR, max_lr=1.0, total_steps=12)),
        (partial(LBFGS, lr=0.1), None),
        (partial(ASGD, lr=0.1), partial(CosineAnnealingLR, T_max=3)),
    ]
    for make, schedule in passing:
        check_training("retrain.", make, schedule, 12)
    with pytest.raises(ConfigError, match="closure"):
        check_training("strategy.weights_", partial(LBFGS, lr=0.1), None, 12, closure=False)


@pytest.mark.parametrize(("side", "batch"), [(4, 1), (4, 2), (8, 1)])
def test_batches_of_one_value_per_channel_are_refused_as_by_torch(side: int, batch: int) -> None:
    space = DARTSSpace(image_size=side, in_channels=1, cells=3, channels=4)
    x, sampled = torch.rand(batch, 1, side, side), space.sample(torch.Generator().manual_seed(0))
    try:
        space.network(sampled).train()(x)
    except ValueError:
        with pytest.raises(ConfigError, match=f"dataset.batch_size={batch}: .*legal: at least {batch + 1}"):
            check_batch(f"dataset.batch_size={batch}", x, lambda: space.network(sampled))
    else:
        check_batch(f"dataset.batch_size={batch}", x, lambda: space.network(sampled))


# -- memory ---------------------------------------------------------------------------------------------------------


def test_what_autograd_keeps_is_what_the_network_needs_by_hand() -> None:
    network = nn.Sequential(nn.Linear(50, 100), nn.Tanh(), nn.BatchNorm1d(100), nn.Dropout(), nn.Linear(100, 10))
    state, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()

    def kept(samples: int) -> int:
        return kept_for_backward(network, lambda: network(torch.rand(samples, 50)))

    one = 4 * (50 + 100 + 100) + 100 + 4 * 100  # inputs of linear, batch norm and linear; the mask, of bytes or numbers
    assert kept(9) - kept(8) in (one - 400, one - 100)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


JOB = ObjectsJob(ToyData(), ToySpace(), Classification(), Child(epochs=1))
SEARCHES: dict[str, Callable[[], Any]] = {
    "DARTS": darts,
    "PCDARTS": lambda: ln.PCDARTS(ToySpace(), arch_warmup_epochs=0),
    "FBNet": lambda: ln.FBNet(ToySpace(), arch_warmup_epochs=0),
    "GDAS": lambda: ln.GDAS(ToySpace(), arch_warmup_epochs=0),
    "SNAS": lambda: ln.SNAS(ToySpace(), arch_warmup_epochs=0),
    "ProxylessNAS": lambda: ln.ProxylessNAS(ToySpace(), arch_warmup_epochs=0),
    "MdeNAS": lambda: ln.MdeNAS(ToySpace(), warmup_epochs=0),
    "ENAS": lambda: ln.ENAS(ToySpace(), arch_warmup_epochs=0),
    "SPOS": lambda: ln.SPOS(ToySpace()),
    "RandomSearch": lambda: ln.RandomSearch(ToySpace(), engine=SerialEngine(JOB), trials=2),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_batch_that_does_not_fit_is_refused_before_the_search(name: str) -> None:
    """The bound is what torch keeps from a forward pass on a whole batch of one path, or of all."""
    data = ToyData()
    data.setup("fit")
    module, made = SEARCHES[name](), trainer(max_epochs=2)
    before = copy.deepcopy(module.state_dict())
    rehearse(made, module, data, [], MEMORY)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0, equal_nan=True)
    network = module.supernet if isinstance(module, SearchModule) else module.space.network(module.space.best)
    parameters = 4 * sum(parameter.nbytes for parameter in network.parameters())
    what = "this supernet" if isinstance(module, SearchModule) else "a candidate"
    with pytest.raises(ConfigError, match=rf"^{what} needs at least .* GB: .* here are .* GB: lower batch_size="):
        rehearse(made, module, data, [], parameters + 10_000)


def test_an_estimate_is_that_of_the_whole_batch() -> None:
    data = ToyData()
    data.setup("fit")
    module, made = darts(), trainer(max_epochs=2)
    x, y = data.search_loader("batch", lambda: 0).batches[0]["weights"]
    gates = Gates.soft({group: rows.detach() for group, rows in module.distribution().items()})
    held = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = [parameter.untyped_storage().data_ptr() for parameter in module.parameters()]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = module.task_loss((x, y), gates)
    needed = sum(size for place, size in held.items() if place not in own)
    needed += 4 * sum(parameter.nbytes for parameter in module.supernet.parameters())
    assert loss.isfinite()
    rehearse(made, module, data, [], int(needed * 1.01))
    with pytest.raises(ConfigError, match="this supernet needs"):
        rehearse(made, module, data, [], int(needed * 0.95))


# -- callbacks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("callback", "flags", "words"),
    [
        (EarlyStopping("val/acc"), {}, None),
        (EarlyStopping("arch/loss"), {}, None),
        (EarlyStopping("nothing", strict=False), {}, None),
        (ModelCheckpoint(), {"enable_checkpointing": True}, None),
        (EarlyStopping("vall/acc"), {}, "EarlyStopping monitors 'vall/acc'.*legal: .*val/acc"),
        (EarlyStopping("val/acc"), {"limit_val_batches": 0}, "'val/acc'"),
        (EarlyStopping("arch/loss"), {"log_every_n_steps": 10}, "only with trainer.log_every_n_steps=1"),
        (ModelCheckpoint(monitor="nothing"), {"enable_checkpointing": True}, "ModelCheckpoint monitors 'nothing'"),
    ],
)
def test_a_monitor_that_is_not_logged_is_refused(callback: Any, flags: Any, words: str | None) -> None:
    data = ToyData()
    data.setup("fit")
    made = trainer(max_epochs=2, callbacks=[callback], **flags)
    if words is None:
        rehearse(made, darts(), data, [callback], MEMORY)
        return
    with pytest.raises(ConfigError, match=words):
        rehearse(made, darts(), data, [callback], MEMORY)


WORDS = {"data": "text", "space": "darts_rnn_small", "task": "language_modelling"}


class Hollow(ToySpace):
    """A space of a person's own that makes no network."""

    def network(self, architecture: Any, **options: Any) -> Any:
        raise ValueError("no layers")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retrain": {"batch_size": 100_000}}, "retrain.batch_size=100000"),
        ({"retrain": {"average_after": 3}}, "ASGD"),
        ({"space": "darts_small", "search_space": {"evaluation": [3, 7]}}, "search_space.evaluation=.*even"),
        (WORDS | {"retrain": {"cutout": 3}}, "retrain.cutout=3: the data are no images; legal: 0"),
        ({"data": ToyData(), "space": Hollow()}, "search_space=toy gives no network to retrain: .*no layers"),
        ({"trainer": {"profiler": "nonsense"}}, "profiler"),
        ({"trainer": {"limit_val_batches": 0.001}}, "limit_val_batches=0.001"),
    ],
)
def test_stages_to_come_are_refused_before_the_search(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    quiet = {"latency_table": "macs", "callbacks": "none", "logger": "none"}
    with pytest.raises(ConfigError, match=words):
        ln.Run(tmp_path, **{"data": "digits", "strategy": "random_ws"} | quiet | settings).search()
    assert not (tmp_path / "config.yaml").exists()


def test_a_logger_that_refuses_its_arguments_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    quiet = {"latency_table": "none", "callbacks": "none", "logger": [TensorBoardLogger(tmp_path, foo=1)]}
    with pytest.raises(ConfigError, match=r"logger: it cannot be made: .*foo"):
        ln.Run(tmp_path / "run", data="digits", strategy="random_ws", **quiet).search()


def test_schedules_of_a_staged_search_are_checked_over_its_own_length() -> None:
    short = partial(OneCycleLR, max_lr=0.1, total_steps=8)
    check_optimizers(partial(PDARTS, weights_scheduler=short), 18)  # a stage of 4 epochs has a schedule
    with pytest.raises(ConfigError, match=r"strategy\.weights_scheduler"):
        check_optimizers(partial(DrNAS, weights_scheduler=short), 12)  # one schedule for both stages of 6
