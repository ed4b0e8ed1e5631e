from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from lightning_nas.errors import ConfigError
from lightning_nas.strategies.differentiable.drnas import DrNAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace, toy_images
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded

ONE_STAGE: dict[str, Any] = {"stage_epochs": 1, "k": (1,), "kept": ()}
TWO_STAGES: dict[str, Any] = {"stage_epochs": 1, "k": (2, 1), "kept": (2,)}


def make_drnas(seed: int = 0, **options: Any) -> DrNAS:
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.999)),
        "score_batches": 2,
        **ONE_STAGE,
    }
    if options.get("arch_warmup_epochs"):  # which must be shorter than a stage
        defaults["stage_epochs"] = 1 + int(options["arch_warmup_epochs"])
    with seeded(seed, "supernet"):
        return DrNAS(ToySpace(), Classification(), seed=seed, **defaults | options)


class TestDrNAS(StrategyCase):
    search_options: ClassVar[dict[str, Any]] = TWO_STAGES | {"stage_epochs": 4}

    @pytest.fixture
    def make(self) -> Callable[..., DrNAS]:
        return make_drnas


def test_resuming_in_any_stage_equals_never_having_stopped(tmp_path: Path) -> None:
    resume_everywhere(partial(make_drnas, **TWO_STAGES), ToyData(304, val_fraction=0.15), tmp_path, 2)


def test_gates_are_dirichlet_samples_of_the_options_that_are_left() -> None:
    module = make_drnas()
    with torch.no_grad():
        module.theta["layers"].copy_(torch.tensor([[-1.0, 0.5, 2.0], [3.0, -2.0, 0.0]]))
    module.kept_options("layers")[:] = torch.tensor([[True, False, True], [True, True, False]])
    torch.manual_seed(11)
    c = F.elu(module.theta["layers"].detach()) + 1
    left = torch.stack([c[0, [0, 2]], c[1, [0, 1]]])
    expected = Dirichlet(left.double()).sample().float()
    gates = module.gates(torch.Generator().manual_seed(11))
    assert gates.active["layers"] == ((0, 2), (0, 1))
    torch.testing.assert_close(gates.values["layers"][0, [0, 2]], expected[0])
    torch.testing.assert_close(gates.values["layers"][1, [0, 1]], expected[1])
    assert gates.values["layers"][0, 1] == gates.values["layers"][1, 2] == 0
    torch.testing.assert_close(module.probabilities()["layers"].sum(-1), torch.ones(2))
    torch.testing.assert_close(module.probabilities()["layers"][0, [0, 2]], left[0] / left[0].sum())


def test_the_divergence_is_added_to_the_architecture_loss_alone() -> None:
    batch = toy_images(16, seed=0)
    batch = batch[0].float() / 255, batch[1]
    losses, gradients = [], []
    for kl in (0.0, 0.7):
        module = make_drnas(kl=kl, theta_std=0.5)
        loss = module.arch_loss(batch)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, module.theta["layers"])[0])
        assert module.weights_loss(batch).item() == make_drnas(kl=0.0, theta_std=0.5).weights_loss(batch).item()
    theta = make_drnas(theta_std=0.5).theta["layers"].detach().requires_grad_()
    divergence = kl_divergence(Dirichlet(F.elu(theta) + 1), Dirichlet(torch.ones(2, 3))).sum()
    assert losses[1] - losses[0] == pytest.approx(0.7 * divergence.item(), abs=1e-5)
    [expected] = torch.autograd.grad(0.7 * divergence, theta)
    torch.testing.assert_close(gradients[1] - gradients[0], expected, rtol=1e-4, atol=1e-5)


class SecondStage(Callback):
    """Looks at the search when its second stage begins."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            assert isinstance(pl_module, DrNAS)
            optimizer = trainer.optimizers[0]
            stages = [dict(pl_module.supernet.of(i).named_parameters()) for i in (0, 1)]  # type: ignore[operator]
            self.weights = [{name: p.detach().clone() for name, p in stage.items()} for stage in stages]
            self.momenta = [
                {name: optimizer.state[p]["momentum_buffer"].clone() for name, p in stage.items()} for stage in stages
            ]
            self.theta = pl_module.theta["layers"].detach().clone()
            self.kept = pl_module.kept_options("layers").clone()


def test_a_stage_keeps_the_best_options_and_widens_the_weights(tmp_path: Path) -> None:
    module, seen = make_drnas(**TWO_STAGES), SecondStage()
    fit(module, ToyData(), tmp_path, epochs=2, every=1000, limit_train_batches=3, callbacks=[seen])
    mean = Dirichlet(F.elu(seen.theta) + 1).mean
    assert torch.equal(seen.kept, torch.ones(2, 3).bool().scatter_(1, mean.argmin(-1, keepdim=True), False))
    assert module.probabilities()["layers"][~seen.kept].tolist() == [0, 0]
    assert not torch.equal(module.theta["layers"][seen.kept], seen.theta[seen.kept]), "the logits go on"
    for old, new in (seen.weights, seen.momenta):
        assert torch.equal(old["stem.conv.weight"], new["stem.conv.weight"])
        name = "layers.0.keep.conv.weight"  # 2 channels, then 4
        assert (tuple(old[name].shape), tuple(new[name].shape)) == ((2, 2, 1, 1), (4, 4, 1, 1))
        assert torch.equal(new[name][:2, :2], old[name])
        ways = [torch.tensor([0, 1, i, j]) for i in (0, 1) for j in (0, 1)]
        [copied] = [index for index in ways if torch.equal(new[name], old[name][index][:, index])]
        norm = "layers.0.keep.norm.weight"
        assert torch.equal(new[norm], old[norm][copied])
    assert any(bool(m.abs().sum() > 0) for m in seen.momenta[1].values())


def test_perturbation_chooses_among_the_options_of_the_last_stage(tmp_path: Path) -> None:
    module = make_drnas(**TWO_STAGES, answer_by="perturbation")
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=2, every=1000)
    chosen = module.space.gates(module.answer()).values["layers"] > 0
    assert bool((chosen <= module.kept_options("layers")).all())


def test_stages_of_one_width_share_a_supernet_and_targets_are_kept() -> None:
    module = make_drnas(k=(2, 1, 1), kept=(3, 2), target={"macs": 600})
    assert len(module.supernet.stages) == 2  # type: ignore[arg-type]
    assert module.target is not None
    assert module.target.meets(module.projected())


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="one entry a stage"):
        make_drnas(k=(2, 1), kept=())
    with pytest.raises(ConfigError, match="which DrNAS has not"):
        make_drnas(beta_decay=1.0)
    with pytest.raises(ConfigError, match=r"k=\[1, 2\]: a stage cannot mix fewer"):
        make_drnas(k=(1, 2), kept=(2,))
    with pytest.raises(ConfigError, match=r"k=\[3, 2\]: a stage has fewer channels in .*; legal: divisors"):
        make_drnas(k=(3, 2), kept=(2,))
    with pytest.raises(ConfigError, match=r"last stage.*max_epochs=1, .*whole search of 2 stages has max_epochs=2"):
        DrNAS.check_lengths(1, {"k": (2, 1), "stage_epochs": 1, "arch_warmup_epochs": 0})
