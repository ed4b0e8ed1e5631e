"""The conformance suite of strategies that share weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins import MixedPrecision
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, NumericalError
from lightning_nas.strategies.base import SearchModule
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import digest, fingerprint, fit, one_thread
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.seeding import seeded
from lightning_nas.training.table import Table

Make = Callable[..., SearchModule]


class StrategyCase:
    """Proves a strategy: subclass, and give the fixture ``make``.

    ``make(seed=0, **options)`` gives a fresh strategy on :class:`~lightning_nas.testing.toys.ToySpace` (one that runs
    one option at a time, and learns through gates, on :class:`~lightning_nas.testing.toys.ToyNodeSpace`, which says
    why), its supernet's weights drawn from ``seed`` (see :func:`~lightning_nas.training.seeding.seeded`), with
    ``options`` passed on to the strategy's constructor.
    """

    epochs = 2  #: of the short searches
    search_epochs = 8  #: enough to find the best toy architecture
    search_options: ClassVar[Mapping[str, Any]] = {}  #: of the strategy in these searches
    search_seeds = 5  #: searches with these many seeds
    found_at_least = 4  #: of them find it; random search at equal budget finds it in 1 of 9

    @pytest.fixture
    def make(self) -> Make:
        """The factory of the strategy under test."""
        pytest.fail(f"{type(self).__name__} gives no fixture 'make'")

    @pytest.fixture
    def data(self) -> SearchData:
        """Small images a toy network learns in seconds."""
        return ToyData()

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        with one_thread():
            yield

    # -- parameters ---------------------------------------------------------------------------------------------

    def test_the_two_groups_are_disjoint_complete_and_in_definition_order(self, make: Make) -> None:
        first, second = make(), make()
        for module in (first, second):
            groups = [*module.weight_parameters(), *module.arch_parameters()]
            assert len({id(p) for p in groups}) == len(groups) == len(list(module.parameters()))
        names = [_names(module, module.weight_parameters()) for module in (first, second)]
        assert names[0] == names[1]
        assert names[0] == [name for name, _ in first.named_parameters() if name in set(names[0])]

    def test_each_step_leaves_the_other_group_untouched(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module, watch = make(), _OneGroupAtATime()
        _guard(module, "weights_loss", module.arch_parameters())
        _guard(module, "arch_loss", module.weight_parameters())
        fit(module, data, tmp_path, epochs=self.epochs, callbacks=[watch])
        assert watch.steps == [module.weights_steps, module.arch_steps]
        assert min(watch.steps) > 0

    def test_the_two_steps_see_disjoint_parts_of_the_data(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module, seen = make(), {"weights": set[bytes](), "arch": set[bytes]()}

        class Watch(Callback):
            def on_train_batch_start(self, t: Any, m: Any, batch: Any, i: int) -> None:
                for part, (images, _) in batch.items():
                    seen[part] |= {image.numpy().tobytes() for image in images}

        fit(module, data, tmp_path, epochs=self.epochs, callbacks=[Watch()])
        assert seen["weights"]
        assert not seen["weights"] & seen["arch"]

    # -- determinism --------------------------------------------------------------------------------------------

    def test_two_runs_of_one_seed_are_equal_to_the_bit(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        results = []
        for run in ("a", "b"):
            torch.manual_seed(hash(run) % 2**32)  # whatever the process drew before
            module = make(seed=3)
            trainer = fit(module, data, tmp_path / run, epochs=self.epochs)
            results.append((fingerprint(trainer, module, tmp_path / run), module.answer()))
        assert results[0] == results[1]

    def test_another_seed_gives_another_search(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        searched = [make(seed=seed) for seed in (0, 1)]
        for i, module in enumerate(searched):
            fit(module, data, tmp_path / str(i), epochs=1)
        assert digest(searched[0].state_dict()) != digest(searched[1].state_dict())

    def test_resuming_from_any_batch_equals_never_having_stopped(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        whole, module = tmp_path / "whole", make(seed=5)
        trainer = fit(module, data, whole, epochs=self.epochs)
        expected, answer = fingerprint(trainer, module, whole), module.answer()
        checkpoints = sorted((whole / "checkpoints").glob("*.ckpt"))
        assert len(checkpoints) == module.position  # before every batch but the first, and at the end
        for checkpoint in checkpoints:
            folder = tmp_path / checkpoint.stem
            folder.mkdir()
            for table in whole.glob("*.csv"):
                shutil.copy(table, folder)
            torch.manual_seed(hash(checkpoint.stem) % 2**32)
            again = make(seed=5)
            _perturb(again)
            trainer = fit(again, data, folder, epochs=self.epochs, resume=checkpoint)
            assert fingerprint(trainer, again, folder) == expected, f"differs after resuming from {checkpoint.name}"
            assert again.answer() == answer

    def test_checkpoints_hold_plain_values_only(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        fit(make(), data, tmp_path, epochs=1)
        assert load_checked(tmp_path / "checkpoints" / "last.ckpt")["lightning_nas"]["position"] > 0

    # -- the loop -----------------------------------------------------------------------------------------------

    def test_accumulation_takes_fewer_steps_and_resumes_inside_a_group(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        one, module = make(), make(accumulate=3)
        fit(one, data, tmp_path / "one", epochs=1)
        trainer = fit(module, data, tmp_path / "whole", epochs=1)
        assert module.weights_steps == -(-one.weights_steps // 3)
        expected = fingerprint(trainer, module, tmp_path / "whole")
        files = sorted((tmp_path / "whole" / "checkpoints").glob("*.ckpt"))
        inside = [file for file in files if load_checked(file)["lightning_nas"]["pending"]]
        assert inside
        for file in inside:
            again, folder = make(accumulate=3), tmp_path / file.stem
            shutil.copytree(tmp_path / "whole", folder)
            trainer = fit(again, data, folder, epochs=1, resume=file)
            assert fingerprint(trainer, again, folder) == expected

    def test_clipping_bounds_each_groups_gradient(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module, norms = make(weights_clip=1e-3, arch_clip=1e-4), _GradientNorms()
        fit(module, data, tmp_path, epochs=1, callbacks=[norms])
        assert max(norms.seen[0]) == pytest.approx(1e-3, rel=1e-3)
        assert max(norms.seen[1], default=0.0) <= 1e-4 * 1.001

    def test_no_architecture_step_during_warm_up(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module = make(arch_warmup_epochs=1)
        before = [p.detach().clone() for p in module.arch_parameters()]
        fit(module, data, tmp_path, epochs=1)
        assert module.arch_steps == 0
        assert all(torch.equal(a, b) for a, b in zip(before, module.arch_parameters(), strict=True))

    def test_trainer_flags_that_mean_nothing_here_name_our_option(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        for flag, ours in ({"gradient_clip_val": 1.0}, "weights_clip"), ({"accumulate_grad_batches": 2}, "accumulate"):
            with pytest.raises(ConfigError, match=ours):
                fit(make(), data, tmp_path, epochs=1, **flag)
        with pytest.raises(ConfigError, match="bf16-mixed"):
            fit(make(), data, tmp_path, epochs=1, precision="bf16-true")

    @pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
    def test_half_precision_starts_like_full_precision_and_keeps_the_architecture_in_float32(
        self, make: Make, data: SearchData, tmp_path: Path, precision: str
    ) -> None:
        full, half = make(), make()
        fit(full, data, tmp_path / "full", epochs=1)
        scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
        how = {"precision": precision} if precision == "bf16-mixed" else {"plugins": [scaled]}
        fit(half, data, tmp_path / "half", epochs=1, **how)
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in half.parameters())
        first = [float(Table(tmp_path / run / "metrics.csv").read()[0]["train/loss"]) for run in ("full", "half")]
        assert first[1] == pytest.approx(first[0], rel=0.02)

    def test_a_weight_that_is_nan_stops_the_search_and_is_named(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        class Poison(Callback):
            def on_train_batch_start(self, t: Any, m: Any, batch: Any, i: int) -> None:
                if m.position == 1:
                    next(iter(m.weight_parameters())).data.fill_(float("nan"))

        module = make()
        name = _names(module, module.weight_parameters())[0]
        with pytest.raises(NumericalError, match="at batch 1") as caught:
            fit(module, data, tmp_path, epochs=1, every=1000, callbacks=[Poison()])
        assert name in str(caught.value)

    # -- architectures ------------------------------------------------------------------------------------------

    def test_probabilities_are_distributions(self, make: Make) -> None:
        module = make()
        for group, rows in module.probabilities().items():
            assert tuple(rows.shape) == module.space.gate_shapes[group]
            assert not rows.requires_grad
            torch.testing.assert_close(rows.sum(-1), torch.ones(len(rows)))

    def test_samples_are_legal_and_a_function_of_the_generator(self, make: Make) -> None:
        module = make()
        for seed in range(5):
            first, second = (module.sample(torch.Generator().manual_seed(seed)) for _ in range(2))
            assert first == second == module.space.validate(first)

    def test_samples_follow_the_probabilities(self, make: Make) -> None:
        module, draws = make(), 600
        with seeded(0, "perturbed"), torch.no_grad():
            for parameter in module.arch_parameters():
                parameter.add_(torch.randn_like(parameter))
        generator = torch.Generator().manual_seed(0)
        drawn = [module.space.gates(module.sample(generator)).values for _ in range(draws)]
        for group, expected in module.probabilities().items():
            frequencies = torch.stack([values[group] for values in drawn]).mean(0)
            torch.testing.assert_close(frequencies, expected, rtol=0, atol=4 * (0.25 / draws) ** 0.5)

    def test_the_answer_builds_trains_and_survives_a_round_trip(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        module = make()
        fit(module, data, tmp_path, epochs=1)
        answer = module.answer()
        assert Architecture.from_json(answer.to_json()) == answer
        logits = module.space.network(answer)(torch.randn(4, *module.space.input_shape))
        logits.sum().backward()
        assert logits.isfinite().all()

    def test_the_score_is_that_of_the_extracted_network(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module = make()
        fit(module, data, tmp_path, epochs=1)
        architecture = module.derive()
        before = digest(module.state_dict())
        score = module.score(architecture)
        assert score == module.score(architecture)
        assert digest(module.state_dict()) == before, "scoring changed the supernet"
        calibration, evaluation = data.score_batches(module.score_batches)
        network = module.inherited(architecture)
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = None
            norm.reset_running_stats()
        with torch.no_grad():
            for x, _ in calibration:
                network.train()(x)
            hits = [(network.eval()(x).argmax(-1) == y).float() for x, y in evaluation]
        assert score == pytest.approx(torch.cat(hits).mean().item())

    def test_it_finds_the_best_toy_architecture_more_often_than_random_search(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        found = 0
        for seed in range(self.search_seeds):
            module = make(seed=seed, **self.search_options)
            fit(module, data, tmp_path / str(seed), epochs=self.search_epochs, every=1000)
            assert isinstance(module.space, ToySpace)
            found += module.derive() == module.space.best  # answer() may look at so many that it cannot miss
        assert found >= self.found_at_least, f"found in {found} of {self.search_seeds} seeds"

    # -- two processes ------------------------------------------------------------------------------------------

    def test_two_processes_end_equal(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        from lightning_nas.testing.distributed import two_ranks

        states = two_ranks(lambda: make(seed=2), data, tmp_path)
        assert states[0]["arch"] == states[1]["arch"], "architecture parameters differ between the ranks"
        assert states[0]["weights"] == states[1]["weights"], "weights differ between the ranks"
        assert states[0]["sample"] == states[1]["sample"], "the ranks draw different architectures"
        assert states[0]["gates"] == states[1]["gates"], "the ranks draw different gates"


class _OneGroupAtATime(Callback):
    """Around every optimizer.step, checks that only that optimiser's parameters change."""

    def __init__(self) -> None:
        self.steps = [0, 0]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SearchModule)
        groups = [pl_module.weight_parameters(), pl_module.arch_parameters()]
        for i, optimizer in enumerate(trainer.optimizers):
            own = [p for group in optimizer.param_groups for p in group["params"]]
            assert [id(p) for p in own] == [id(p) for p in groups[i]]
            self._watch(i, optimizer, groups[1 - i])

    def _watch(self, i: int, optimizer: torch.optim.Optimizer, others: list[nn.Parameter]) -> None:
        before: list[str] = []

        def pre(*_: Any) -> None:
            before[:] = [digest(others)]

        def post(*_: Any) -> None:
            assert [digest(others)] == before, f"the step of optimiser {i} changed the other group"
            self.steps[i] += 1

        optimizer.register_step_pre_hook(pre)
        optimizer.register_step_post_hook(post)


class _GradientNorms(Callback):
    """The gradient norm each optimiser stepped with; Lightning clips inside the step, by its closure."""

    def __init__(self) -> None:
        self.seen: tuple[list[float], list[float]] = ([], [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for i, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_post_hook(lambda opt, *_, i=i: self.seen[i].append(_norm(opt)))


def _norm(optimizer: torch.optim.Optimizer) -> float:
    gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return float(torch.cat(gradients).norm())


def _names(module: nn.Module, parameters: list[nn.Parameter]) -> list[str]:
    names = {id(p): name for name, p in module.named_parameters()}
    return [names[id(p)] for p in parameters]


def _guard(module: SearchModule, name: str, others: list[nn.Parameter]) -> None:
    """Let a loss be computed only if it leaves ``others`` as they were, to the bit."""
    loss = getattr(module, name)

    def guarded(batch: Any) -> Any:
        before = digest(others)
        value = loss(batch)
        assert digest(others) == before, f"{name} changed the other group"
        return value

    setattr(module, name, guarded)


def _perturb(module: nn.Module) -> None:
    """What a resumed module holds before loading must not matter."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
