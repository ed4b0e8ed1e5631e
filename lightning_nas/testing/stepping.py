"""Conformance tests of the steps of a strategy, and of what they must not change."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins import MixedPrecision

from lightning_nas.data.base import SearchData
from lightning_nas.errors import ConfigError, NumericalError
from lightning_nas.testing.searching import Make, SearchCase, steps_architecture
from lightning_nas.testing.training import fingerprint, fit
from lightning_nas.testing.watching import GradientNorms, OneGroupAtATime, guard, parameter_names
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.csv_table import CSVTable


class SteppingCase(SearchCase):
    """Tests of the two groups of parameters and the steps on them."""

    def test_the_two_groups_are_disjoint_complete_and_in_definition_order(self, make: Make) -> None:
        first, second = make(), make()
        for module in (first, second):
            groups = [*module.weight_parameters(), *module.arch_parameters()]
            assert len({id(p) for p in groups}) == len(groups) == len(list(module.parameters()))
        names = [parameter_names(module, module.weight_parameters()) for module in (first, second)]
        assert names[0] == names[1]
        assert names[0] == [name for name, _ in first.named_parameters() if name in set(names[0])]

    def test_each_step_leaves_the_other_group_untouched(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module, watch = make(), OneGroupAtATime()
        guard(module, "weights_loss", module.arch_parameters())
        if module.steps_architecture:
            guard(module, "arch_loss", module.weight_parameters())
        trainer = fit(module, data, tmp_path, epochs=self.epochs, every=1000, callbacks=[watch])
        assert {*trainer.callback_metrics} >= module.monitors() | module.validation_monitors()
        taken = [module.weights_steps] + [module.arch_steps] * module.steps_architecture
        assert watch.steps == taken
        assert min(taken) > 0

    def test_the_two_steps_see_disjoint_parts_of_the_data(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module, seen = make(), {"weights": set[bytes](), "arch": set[bytes]()}

        class Watch(Callback):
            def on_train_batch_start(self, t: Any, m: Any, batch: Any, i: int) -> None:
                for part, (images, _) in batch.items():
                    seen[part] |= {image.numpy().tobytes() for image in images}

        fit(module, data, tmp_path, epochs=self.epochs, every=1000, callbacks=[Watch()])
        assert seen["weights"]
        assert bool(seen["arch"]) == module.steps_architecture
        assert not seen["weights"] & seen["arch"]

    def test_accumulation_takes_fewer_steps_and_resumes_inside_a_group(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        one, module = make(), make(accumulate=3)
        fit(one, data, tmp_path / "one", epochs=1, every=1000)
        trainer = fit(module, data, tmp_path / "whole", epochs=1)
        assert module.weights_steps == -(-one.weights_steps // 3)
        expected = fingerprint(trainer, module, tmp_path / "whole")
        files = sorted((tmp_path / "whole" / "checkpoints").glob("*.ckpt"))
        inside = [file for file in files if load_checked(file)["lightning_nas"]["pending"]]
        assert inside
        for file in inside:
            again, folder = make(accumulate=3), tmp_path / file.stem
            shutil.copytree(tmp_path / "whole", folder)
            trainer = fit(again, data, folder, epochs=1, every=1000, resume=file)
            assert fingerprint(trainer, again, folder) == expected

    def test_clipping_bounds_each_groups_gradient(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        clips = {"weights_clip": 1e-3}
        if make().steps_architecture:
            clips["arch_clip"] = 1e-4
        norms = GradientNorms()
        fit(make(**clips), data, tmp_path, epochs=1, every=1000, callbacks=[norms])
        assert max(norms.seen[0]) == pytest.approx(1e-3, rel=1e-3)
        assert max(norms.seen[1], default=0.0) <= 1e-4 * 1.001

    def test_no_architecture_step_during_warm_up(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        steps_architecture(make)
        module = make(arch_warmup_epochs=1)
        before = [p.detach().clone() for p in module.arch_parameters()]
        steps = list[tuple[int, bool]]()

        class Watch(Callback):
            def on_train_epoch_end(self, t: Any, m: Any) -> None:
                same = all(torch.equal(a, b) for a, b in zip(before, module.arch_parameters(), strict=True))
                steps.append((module.arch_steps, same))

        fit(module, data, tmp_path, epochs=2, every=1000, callbacks=[Watch()])
        assert steps[0] == (0, True)
        assert steps[1][0] > 0
        assert not steps[1][1]

    def test_trainer_flags_that_mean_nothing_here_name_our_option(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        for flag, ours in ({"gradient_clip_val": 1.0}, "weights_clip"), ({"accumulate_grad_batches": 2}, "accumulate"):
            with pytest.raises(ConfigError, match=ours):
                fit(make(), data, tmp_path, epochs=1, **flag)
        with pytest.raises(ConfigError, match="bf16-mixed"):
            fit(make(), data, tmp_path, epochs=1, precision="bf16-true")

    @pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
    def test_half_precision_keeps_the_architecture_in_float32(
        self, make: Make, data: SearchData, tmp_path: Path, precision: str
    ) -> None:
        full, half = make(), make()
        fit(full, data, tmp_path / "full", epochs=1, every=1000)
        scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
        how = {"precision": precision} if precision == "bf16-mixed" else {"plugins": [scaled]}
        fit(half, data, tmp_path / "half", epochs=1, every=1000, **how)
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p in half.parameters())
        first = [float(CSVTable(tmp_path / run / "metrics.csv").read()[0]["train/loss"]) for run in ("full", "half")]
        assert first[1] == pytest.approx(first[0], rel=0.02)

    def test_a_weight_that_is_nan_stops_the_search_and_is_named(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        class Poison(Callback):
            def on_train_batch_start(self, t: Any, m: Any, batch: Any, i: int) -> None:
                if m.position == 1:
                    next(iter(m.weight_parameters())).data.fill_(float("nan"))

        module = make()
        name = parameter_names(module, module.weight_parameters())[0]
        with pytest.raises(NumericalError, match="at batch 1") as caught:
            fit(module, data, tmp_path, epochs=1, every=1000, callbacks=[Poison()])
        assert name in str(caught.value)
