from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from lightning_nas.errors import ConfigError
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.p_darts import PDARTS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_p_darts(seed: int = 0, **options: Any) -> PDARTS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "score_batches": 2,
        "stage_epochs": 1,
        "added_cells": (0, 1),
        "dropped": (1,),
        "skip_dropout": (0.0, 0.4),
    }
    if options.get("arch_warmup_epochs"):  # which must be shorter than a stage
        defaults["stage_epochs"] = 1 + int(options["arch_warmup_epochs"])
    with seeded(seed, "supernet"):
        return PDARTS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestPDarts(StrategyCase):
    search_options: ClassVar[dict[str, Any]] = {"stage_epochs": 4}

    @pytest.fixture
    def make(self) -> Callable[..., PDARTS]:
        return make_p_darts


def test_a_stage_drops_the_smallest_options_and_the_next_starts_afresh(tmp_path: Path) -> None:
    module = make_p_darts(stage_epochs=2)
    fit(module, ToyData(), tmp_path, epochs=2, every=1000)
    first = module.theta["layers"].softmax(-1)
    expected = torch.ones(2, 3, dtype=torch.bool).scatter_(1, first.argmin(-1, keepdim=True), False)
    assert torch.equal(module.get_buffer("kept_layers"), expected)
    assert module.stage == 1  # after the last epoch of stage 0
    assert module.probabilities()["layers"][~expected].tolist() == [0, 0]
    assert [len(row) for row in module.gates(torch.Generator()).active["layers"]] == [2, 2]
    begun = module.theta["layers_1"].detach().clone()
    assert float(begun.abs().max()) < 0.01
    later = make_p_darts(stage_epochs=2)
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


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="one entry a stage"):
        make_p_darts(dropped=(1, 1))
