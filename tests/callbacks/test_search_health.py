import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from scipy.stats import entropy as scipy_entropy
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks import search_health
from lightning_nas.callbacks.search_health import SearchHealth, arch_eigenvalue, skip_dominance
from lightning_nas.errors import ConfigError
from lightning_nas.experiment import search as stage
from lightning_nas.experiment.run import Run
from lightning_nas.experiment.settings import Names
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.differentiable.darts import DARTS
from lightning_nas.strategies.differentiable.gdas import GDAS
from lightning_nas.tasks.base import Batch
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.callbacks import CallbackCase, toy_search
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import digest, fingerprint, fit, one_thread
from lightning_nas.training.checkpoint import AtomicCheckpointIO
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.exact import ExactCheckpoint
from lightning_nas.training.seeding import seeded

OPTIMISERS: dict[str, Any] = {
    **PLAIN_ARCH,
    "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "arch_optimizer": partial(torch.optim.Adam, lr=0.1),
}


class TestSearchHealth(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return SearchHealth


class TestEarlyStopThatDoesNotFire(CallbackCase):
    @pytest.fixture
    def make(self) -> Callable[[], Callback]:
        return lambda: SearchHealth(1, iterations=20, early_stop=True)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def darts(make: type[SearchModule] = DARTS, space: Any = None, **options: Any) -> SearchModule:
    with seeded(0, "supernet"):
        how = OPTIMISERS | {"theta_std": 0.5, "calibration_batches": 2, "score_batches": 2} | options
        return make(space or ToySpace(), Classification(), None, **how)


def batch(size: int = 32, shape: tuple[int, ...] = (1, 4, 4)) -> Batch:
    draw = torch.Generator().manual_seed(3)
    return torch.randn(size, *shape, generator=draw), torch.randint(4, (size,), generator=draw)


def full_eigenvalue(module: SearchModule, data: Batch) -> float:
    """Of the Hessian of the loss by ``torch.autograd.functional``, all of it, in float64."""
    module.double()
    shapes = module.space.gate_shapes

    def loss(*thetas: Tensor) -> Tensor:
        gates = Gates.soft({group: theta.softmax(-1) for group, theta in zip(shapes, thetas, strict=True)})
        return F.cross_entropy(module.supernet(data[0].double(), gates), data[1])

    thetas = tuple(p.detach().clone() for p in module.arch_parameters())
    blocks: Any = torch.autograd.functional.hessian(loss, thetas)
    sizes = [theta.numel() for theta in thetas]
    matrix = torch.cat(
        [
            torch.cat([block.reshape(n, m) for block, m in zip(row, sizes, strict=True)], 1)
            for row, n in zip(blocks, sizes, strict=True)
        ]
    )
    values = torch.linalg.eigvalsh(matrix)
    return float(values[values.abs().argmax()])


# -- the figures ----------------------------------------------------------------------------------------------------


def test_the_eigenvalue_is_that_of_the_full_hessian() -> None:
    module = darts()
    found = arch_eigenvalue(module, [batch()], iterations=200)
    assert found == pytest.approx(full_eigenvalue(module, batch()), rel=5e-3)


def test_the_eigenvalue_of_a_fused_supernet_is_that_of_the_plain_one() -> None:
    found = []
    for fused in (True, False):
        space = FBNetSpace(
            name="f", image_size=8, in_channels=1, num_classes=4, stem=(8, 1), stages=((8, 1, 1), (8, 1, 1)), head=8,
            dropout=0.0, fused=fused,
        )  # fmt: skip
        found.append(arch_eigenvalue(darts(space=space), [batch(shape=(1, 8, 8))], iterations=20))
    assert found[0] == pytest.approx(found[1], rel=1e-2)


def test_the_look_at_the_eigenvalue_leaves_everything_as_it_was() -> None:
    module = darts()
    next(module.supernet.children()).eval()
    before = digest([module.state_dict(), torch.get_rng_state(), [m.training for m in module.modules()]])
    assert arch_eigenvalue(module, [batch()]) == arch_eigenvalue(module, [batch()])
    assert digest([module.state_dict(), torch.get_rng_state(), [m.training for m in module.modules()]]) == before
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_straight_through_gates_have_an_eigenvalue(tmp_path: Path) -> None:
    module = darts(GDAS)
    fit(module, ToyData(), tmp_path, epochs=1)
    value = arch_eigenvalue(module, [batch()])
    assert value is not None
    assert math.isfinite(value)


def test_a_loss_without_a_gradient_in_the_architecture_has_no_eigenvalue(tmp_path: Path) -> None:
    module = darts()
    module.gates = lambda generator: Gates.soft(module.probabilities())  # type: ignore[method-assign]
    assert arch_eigenvalue(module, [batch()]) is None


def test_entropies_and_skips_agree_with_scipy_and_with_counting(tmp_path: Path) -> None:
    module = toy_search()
    module.space.gate_options = {"layers": ("blur", "swap", "skip")}
    fit(module, ToyData(), tmp_path, epochs=1, callbacks=[SearchHealth(1, iterations=20)])
    rows = module.probabilities()["layers"].numpy()
    edges, [health] = CSVTable(tmp_path / "edges.csv").read(), CSVTable(tmp_path / "health.csv").read()
    expected = [float(scipy_entropy(row)) for row in rows]
    assert [float(edge["entropy"]) for edge in edges] == pytest.approx(expected)
    assert [float(edge["probability"]) for edge in edges] == pytest.approx([float(row.max()) for row in rows])
    assert [edge["option"] for edge in edges] == [("blur", "swap", "skip")[row.argmax()] for row in rows]
    assert float(health["entropy"]) == pytest.approx(sum(expected) / 2)
    assert float(health["skip_share"]) == sum(row.argmax() == 2 for row in rows) / 2
    assert float(health["skip_probability"]) == pytest.approx(rows[:, 2].mean())
    assert float(CSVTable(tmp_path / "metrics.csv").read()[-1]["health/entropy"]) == pytest.approx(sum(expected) / 2)


def test_skip_share_counts_only_choices_with_a_skip() -> None:
    rows = {"a": torch.tensor([[0.6, 0.4], [0.1, 0.9]]), "b": torch.tensor([[1.0, 0.0]])}
    assert skip_dominance(rows, {"a": ("conv", "pool"), "b": ("conv", "pool")}) == (None, None)
    found = skip_dominance(rows, {"a": ("skip_connect", "conv"), "b": ("conv", "pool")})
    assert found == pytest.approx((0.5, 0.35))


def test_the_gap_is_that_of_an_independent_computation(tmp_path: Path) -> None:
    module, data = toy_search(), ToyData()
    fit(module, data, tmp_path, epochs=2, callbacks=[SearchHealth(2, iterations=20)])
    [row] = CSVTable(tmp_path / "health.csv").read()
    assert (row["epoch"], row["step"]) == ("1", str(module.position))
    calibration, evaluation = module.calibration(), module.scoring()
    module.eval()
    network = module.space.extract(module.supernet, module.derive())
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None
        norm.reset_running_stats()
    gates = Gates.soft(module.probabilities())
    with torch.no_grad():
        for x, _ in calibration:
            network.train()(x)
        derived = torch.cat([(network.eval()(x).argmax(-1) == y).float() for x, y in evaluation]).mean()
        supernet = torch.cat([(module.supernet(x, gates).argmax(-1) == y).float() for x, y in evaluation]).mean()
    assert float(row["supernet_score"]) == pytest.approx(float(supernet))
    assert float(row["derived_score"]) == pytest.approx(float(derived))
    assert float(row["discretisation_gap"]) == pytest.approx(float(supernet - derived))


def test_the_global_generators_are_where_they_were(tmp_path: Path) -> None:
    states: list[list[str]] = [[], []]
    for seen, health in zip(states, ([], [SearchHealth(1, iterations=20)]), strict=True):
        fit(toy_search(), ToyData(), tmp_path / str(len(health)), callbacks=[*health, _Generators(seen)])
    assert states[0] == states[1] != []


# -- the early stop -------------------------------------------------------------------------------------------------


def test_an_early_stop_keeps_the_architecture_of_the_older_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _eigenvalues(monkeypatch, [1.0] * 8 + [2.55])  # averages over five: 1, 1, 1, 1, 1.31
    module, stop = _wandering_search(), SearchHealth(1, iterations=20, early_stop=True, first_epoch=8)
    trainer = fit(module, ToyData(), tmp_path, epochs=12, limit_train_batches=1, callbacks=[stop])
    assert trainer.current_epoch == 9  # the epochs that were begun and ended
    assert stop.healthy == stop.derived[4] != stop.derived[3]
    assert stop.derived[4] != stop.derived[8]


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ([1.0] * 8 + [2.5], {"first_epoch": 8}),
        ([1.0] * 8 + [2.55] + [0.0] * 9, {}),
        ([1.0] * 8 + [2.55], {"ratio": 1.4}),
    ],
)
def test_it_goes_on_where_the_rise_is_smaller_or_too_early(
    values: list[float], options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _eigenvalues(monkeypatch, values)
    stop = SearchHealth(1, iterations=20, early_stop=True, **options)
    trainer = fit(toy_search(), ToyData(), tmp_path, epochs=9, limit_train_batches=1, callbacks=[stop])
    assert trainer.current_epoch == 9
    assert stop.healthy is None


def test_a_stopped_search_resumes_to_the_bit_and_stays_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _eigenvalues(monkeypatch, [1.0, -1.0, 1.0, -3.0, 1.0, 1.0])

    def run(folder: Path, resume: Path | None = None) -> tuple[dict[str, str], Architecture | None, int]:
        module, stop = _wandering_search(), SearchHealth(1, iterations=20, early_stop=True, window=2, first_epoch=0)
        options: dict[str, Any] = {"epochs": 6, "limit_train_batches": 2, "resume": resume}
        trainer = fit(module, ToyData(), folder, callbacks=[stop], **options)
        return fingerprint(trainer, module, folder), stop.healthy, trainer.current_epoch

    whole = run(tmp_path / "whole")
    assert whole[1:] == (_wandered(2), 4)
    checkpoints = sorted((tmp_path / "whole" / "checkpoints").glob("*.ckpt"))
    assert len(checkpoints) == 8  # before each batch but the first, and at the end
    for checkpoint in checkpoints:
        folder = tmp_path / checkpoint.stem
        shutil.copytree(tmp_path / "whole", folder, ignore=shutil.ignore_patterns("checkpoints"))
        assert run(folder, checkpoint) == whole, f"differs after resuming from {checkpoint.name}"


def test_two_processes_stop_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _eigenvalues(monkeypatch, [1.0, 1.0, 1.0, 3.0])
    stop = SearchHealth(1, iterations=20, early_stop=True, window=2, first_epoch=0)
    fit(
        _wandering_search(), ToyData(), tmp_path, epochs=6, every=1000, limit_train_batches=1,
        callbacks=[stop, _Tell(tmp_path)], devices=2, strategy="ddp_notebook_find_unused_parameters_true",
    )  # fmt: skip
    told = [(tmp_path / f"rank{rank}").read_text() for rank in (0, 1)]
    assert told == [f"4 {_wandered(2)}"] * 2
    assert len(CSVTable(tmp_path / "health.csv").read()) == 4


def test_the_stage_answers_with_the_healthy_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _eigenvalues(monkeypatch, [1.0, 1.0, 1.0, 3.0])
    monkeypatch.setattr(SearchModule, "derive", lambda module: _wandered(module.current_epoch))
    monkeypatch.setattr(stage, "build_strategy", lambda *_: toy_search())
    monkeypatch.setattr(stage, "make_trainer", lambda run, name, callbacks, **_: _trainer(tmp_path, callbacks))
    data = ToyData()
    data.setup("fit")
    run = Run(
        tmp_path,
        data,
        ToySpace(),
        Classification(),
        strategy=toy_search,
        trainer=pl.Trainer,
        record={},
        names=Names("toy", "toy"),
        callbacks=lambda: [SearchHealth(every_n_epochs=1, iterations=20, early_stop=True, window=2, first_epoch=0)],
    )
    found = stage.search(run, None)
    assert found == Architecture.load(tmp_path / "architecture.json") == _wandered(2)


def test_an_early_stop_without_eigenvalues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="iterations=0"):
        SearchHealth(early_stop=True, iterations=0)
    module = darts(order="first", arch_warmup_epochs=1)
    module.gates = lambda generator: Gates.soft(module.probabilities())  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="arch_loss"):
        fit(module, ToyData(), tmp_path, epochs=2, callbacks=[SearchHealth(1, iterations=20, early_stop=True)])


class _Tell(Callback):
    """Each rank writes when it stopped and what it kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        [stop] = [c for c in trainer.callbacks if isinstance(c, SearchHealth)]  # type: ignore[attr-defined]
        (self.folder / f"rank{trainer.global_rank}").write_text(f"{trainer.current_epoch} {stop.healthy}")


def _trainer(folder: Path, callbacks: list[Callback]) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=6, callbacks=[ExactCheckpoint(folder / "checkpoints"), *callbacks], logger=False, accelerator="cpu",
        default_root_dir=folder, enable_checkpointing=False, enable_progress_bar=False, limit_train_batches=1,
        enable_model_summary=False, use_distributed_sampler=False, plugins=[AtomicCheckpointIO(keep=1)],
    )  # fmt: skip


class _Generators(Callback):
    """Where torch's global generator is after each epoch."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(digest(torch.get_rng_state()))


def _eigenvalues(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """What is to be found in each epoch."""
    monkeypatch.setattr(search_health, "arch_eigenvalue", lambda module, *_: values[module.current_epoch])


def _wandering_search() -> SearchModule:
    """A search that would answer something else after each epoch."""
    module = toy_search()
    module.derive = lambda: _wandered(module.current_epoch)  # type: ignore[method-assign]
    return module


def _wandered(epoch: int) -> Architecture:
    options = ("blur", "swap", "keep")
    return ToySpace().validate({"layer_1": options[epoch % 3], "layer_2": options[epoch // 3 % 3]})
