from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from lightning_nas.callbacks.short_warm_up import ShortWarmUp
from lightning_nas.errors import ConfigError, NoStepError
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded

ONE_STAGE: dict[str, Any] = {"stage_epochs": 1, "added_cells": (1,), "dropped": (), "skip_dropout": (0.4,)}
TWO_STAGES: dict[str, Any] = {"stage_epochs": 1, "added_cells": (0, 1), "dropped": (1,), "skip_dropout": (0.0, 0.4)}


def make_p_darts(seed: int = 0, **options: Any) -> PDARTS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "calibration_batches": 2,
        "score_batches": 2,
        **ONE_STAGE,
    }
    if options.get("arch_warmup_epochs"):  # which must be shorter than a stage
        defaults["stage_epochs"] = 1 + int(options["arch_warmup_epochs"])
    with seeded(seed, "supernet"):
        return PDARTS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestPDarts(StrategyCase):
    search_options: ClassVar[dict[str, Any]] = TWO_STAGES | {"stage_epochs": 4}

    @pytest.fixture
    def make(self) -> Callable[..., PDARTS]:
        return make_p_darts


class StopAfter(Callback):
    """Ends a search early, as Trainer(max_time=...) does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == self.epoch


def test_resuming_in_any_stage_equals_never_having_stopped(tmp_path: Path) -> None:
    resume_everywhere(partial(make_p_darts, **TWO_STAGES), ToyData(304, val_fraction=0.15), tmp_path, 2)


def test_an_answer_comes_from_the_last_stage(tmp_path: Path) -> None:
    data = ToyData(304, val_fraction=0.15)
    with pytest.raises(ConfigError, match=r"last stage.*max_epochs=2, .*stage_epochs=2, .*whole .*max_epochs=4"):
        fit(make_p_darts(**TWO_STAGES | {"stage_epochs": 2}), data, tmp_path, epochs=2)
    module = make_p_darts(**TWO_STAGES | {"stage_epochs": 3, "arch_warmup_epochs": 1})
    fit(module, data, tmp_path, epochs=6, every=1000, callbacks=[StopAfter(epoch=3)])
    assert (module.stage, module.arch_steps) == (1, 8)
    with pytest.raises(NoStepError, match="warm-up of stage 2 of 2, whose logits decide"):
        module.answer()


def test_a_stage_drops_the_smallest_options_and_the_next_starts_afresh(tmp_path: Path) -> None:
    two = TWO_STAGES | {"stage_epochs": 2}
    debugging = [ShortWarmUp()]  # a whole search would not end here
    module = make_p_darts(**two)
    fit(module, ToyData(), tmp_path, epochs=2, every=1000, callbacks=debugging)
    first = module.theta["layers"].softmax(-1)
    expected = torch.ones(2, 3, dtype=torch.bool).scatter_(1, first.argmin(-1, keepdim=True), False)
    assert torch.equal(module.get_buffer("kept_layers"), expected)
    assert module.stage == 1  # after the last epoch of stage 0
    assert module.probabilities()["layers"][~expected].tolist() == [0, 0]
    assert [len(row) for row in module.gates(torch.Generator()).active["layers"]] == [2, 2]
    begun = module.theta["layers_1"].detach().clone()
    assert float(begun.abs().max()) < 0.01
    later = make_p_darts(**two)
    before = [p.detach().clone() for p in later.supernet.stages[1].parameters()]  # type: ignore[union-attr]
    fit(later, ToyData(), tmp_path / "later", epochs=3, every=1000)
    after = list(later.supernet.stages[1].parameters())  # type: ignore[union-attr]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_skips_beyond_the_limit_are_ruled_out_weakest_first() -> None:
    space = ToySpace()
    space.gate_options = {"normal": ("blur", "swap", "skip")}
    space.gate_shapes = {"normal": (2, 3)}
    named = {"normal": torch.tensor([[0.1, 0.3, 0.6], [0.4, 0.1, 0.5]])}
    module = make_p_darts(max_skips=1)
    module.space = space
    plain = ToySpace()
    space.derive = lambda p: plain.derive({"layers": p["normal"]})  # type: ignore[method-assign]
    space.gates = lambda a: Gates({"normal": plain.gates(a).values["layers"]}, {})  # type: ignore[method-assign]
    module.probabilities = lambda: {"normal": named["normal"].clone()}  # type: ignore[method-assign]
    assert str(module.derive()) == "keep blur"  # of two skips ("keep" is the third option) the weaker one went
    module.max_skips = 2
    assert str(module.derive()) == "keep keep"


def test_edges_on_which_only_the_skip_is_left_take_another_operation() -> None:
    space = DARTSSpace(image_size=8, cells=3, channels=2, operations=("none", "skip_connect", "sep_conv_3x3"))
    module = make_p_darts(max_skips=2)
    module.space = space
    left = torch.tensor([0.1, 0.9, 0.0]).expand(14, 3)  # separable convolutions were dropped
    module.probabilities = lambda: {kind: left.clone() for kind in ("normal", "reduce")}  # type: ignore[method-assign]
    answer = space.genotypes(module.derive())
    skips = {kind: [o for node in cell.nodes for o, _ in node].count("skip_connect") for kind, cell in answer.items()}
    assert skips == {"normal": 2, "reduce": 8}


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="one entry a stage"):
        make_p_darts(dropped=(1, 1))
