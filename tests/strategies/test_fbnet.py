import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import gumbel_r, kstest

from lightning_nas.errors import LatencyTableError
from lightning_nas.functional.penalties import fbnet_loss
from lightning_nas.functional.relaxation import entropy, gumbel_noise, gumbel_softmax
from lightning_nas.latency.sources import Macs
from lightning_nas.latency.table import Entry, LatencyTable
from lightning_nas.spaces.gates import Gates
from lightning_nas.strategies.differentiable.fbnet import FBNet
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import seeded


def make_fbnet(seed: int = 0, table: LatencyTable | None = None, **options: Any) -> FBNet:
    space = ToySpace()
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "alternate": "batch",
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1),
        "weights_scheduler": partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=8),
        "anneal": 0.8,
        "beta": 0.2,
        "calibration_batches": 2,
        "score_batches": 2,
        "candidates": 4,
    }
    with seeded(seed, "supernet"):
        return FBNet(space, Classification(), table or Macs()(space), seed=seed, **defaults | options)


class TestFBNetByBatch(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., FBNet]:
        return make_fbnet


class TestFBNetByEpoch(StrategyCase):
    search_epochs = 12

    @pytest.fixture
    def make(self) -> Callable[..., FBNet]:
        return partial(make_fbnet, alternate="epoch")


def milliseconds(**entries: float) -> LatencyTable:
    space = ToySpace()
    return LatencyTable(
        unit="ms",
        device="test",
        space=space.name,
        space_digest=space.digest,
        entries={key: Entry(median=value, iqr=0.0) for key, value in entries.items()},
    )


ENTRIES = {"stem": 0.05, "head": 0.05, "blur": 0.1, "swap": 0.2, "keep": 0.4}


@pytest.mark.parametrize(
    "fall", [{"anneal": math.exp(-0.045)}, {"anneal": None, "last_temperature": 5 * math.exp(-0.045 * 89)}]
)
def test_the_temperature_has_the_papers_values(fall: dict[str, float | None]) -> None:
    module = make_fbnet(temperature=5.0, **fall)

    class Epoch:
        current_epoch, max_epochs = 0, 90

    values = {}
    for epoch in (0, 1, 10, 45, 89):
        Epoch.current_epoch = epoch
        module._trainer = Epoch  # type: ignore[assignment]
        module._fabric = None
        values[epoch] = module.tau
    expected = {0: 5.0, 1: 4.7799874, 10: 3.1881408, 45: 0.6599692, 89: 0.0911214}
    assert values == pytest.approx(expected, rel=1e-6)


def test_the_loss_is_the_papers_product() -> None:
    loss = fbnet_loss(torch.tensor(1.0, dtype=torch.float64), torch.tensor(100.0, dtype=torch.float64), 0.2, 0.6)
    assert loss.item() == pytest.approx(0.5000085, abs=1e-7)
    assert loss.item() != pytest.approx(0.2 * 0.6 * math.log(100), rel=0.05)  # the re-implementation's formula


def test_the_strategy_takes_the_logarithm_of_microseconds() -> None:
    module = make_fbnet(table=milliseconds(**ENTRIES), alpha=0.2, beta=0.6)
    gates = module.space.gates(module.space.best)
    batch = (torch.rand(8, 1, 4, 4), torch.arange(8) % 4)
    module.gates = lambda generator: gates  # type: ignore[method-assign]
    cross_entropy = torch.nn.functional.cross_entropy(module.supernet.train()(batch[0], gates), batch[1])
    expected = cross_entropy.item() * 0.2 * math.log(1000 * (0.05 + 0.05 + 0.4 + 0.4)) ** 0.6
    assert module.weights_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_a_table_whose_logarithm_could_be_negative_is_refused() -> None:
    tiny = milliseconds(**dict.fromkeys(ENTRIES, 2e-4))
    with pytest.raises(LatencyTableError, match=r"0\.8 microseconds.*more than 1 microseconds"):
        make_fbnet(table=tiny)


def test_without_a_table_the_operations_are_measured() -> None:
    table = FBNet(ToySpace()).table
    assert table.unit == "ms"
    assert table.check(ToySpace()) is table


def test_the_gates_are_the_relaxation_of_the_categorical_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = gumbel_noise(torch.Size([20_000]), generator)
    assert kstest(noise.numpy(), gumbel_r.cdf).pvalue > 0.01
    logits = torch.tensor([1.0, 0.0, -1.0]).log_softmax(-1)
    rows = gumbel_softmax(logits.expand(20_000, 3), gumbel_noise(torch.Size([20_000, 3]), generator), 0.1)
    torch.testing.assert_close(rows.sum(-1), torch.ones(20_000))
    # the arg max of logits + Gumbel noise is distributed as the softmax (the Gumbel-max trick)
    share = rows.argmax(-1).bincount(minlength=3) / 20_000
    torch.testing.assert_close(share, logits.exp(), atol=0.012, rtol=0)


def test_gates_agree_with_torchs_own_gumbel_softmax() -> None:
    logits = torch.randn(4, 9)
    torch.manual_seed(7)
    ours = gumbel_softmax(logits, -torch.empty_like(logits).exponential_().log(), 0.7)
    torch.manual_seed(7)
    torch.testing.assert_close(ours, torch.nn.functional.gumbel_softmax(logits, tau=0.7))


def test_entropy_agrees_with_torchs_distribution_and_is_zero_when_certain() -> None:
    rows = torch.randn(5, 9).softmax(-1)
    assert entropy(rows).item() == pytest.approx(torch.distributions.Categorical(rows).entropy().mean().item())
    assert entropy(torch.eye(3)).item() == 0.0


def test_each_step_draws_its_gates_once_for_the_whole_batch() -> None:
    module = make_fbnet()
    drawn = [module.gates(module.generator(stream)).values["layers"] for stream in ("weights", "weights", "arch")]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (2, 3)


def test_latency_alone_prefers_cheap_operations(tmp_path: Path) -> None:
    module = make_fbnet(table=milliseconds(**ENTRIES))
    cost = module.cost(Gates.soft({"layers": module.theta["layers"].softmax(-1)}))
    cost.log().backward()
    gradient = module.theta["layers"].grad
    assert gradient is not None
    assert (gradient[:, 0] < gradient[:, 1]).all()
    assert (gradient[:, 1] < gradient[:, 2]).all()


def test_the_answer_is_the_best_of_the_samples_or_the_most_probable(tmp_path: Path) -> None:
    module = make_fbnet(candidates=12)
    fit(module, ToyData(), tmp_path, epochs=2)
    answer = module.answer()
    assert module.scored[answer] == max(module.scored.values())
    assert module.derive() in module.scored
    assert len(module.scored) > 1
    module.answer_by = "argmax"
    assert module.answer() == module.space.derive(module.probabilities())


def test_the_conformance_suite_notices_a_strategy_that_learns_nothing(tmp_path: Path) -> None:
    unlearning = partial(make_fbnet, arch_optimizer=partial(torch.optim.SGD, lr=1e-12))
    with pytest.raises(AssertionError, match="found in"):
        StrategyCase().test_it_finds_the_best_toy_architecture_more_often_than_random_search(
            unlearning, ToyData(), tmp_path
        )


def test_candidates_of_equal_cost_stand_in_the_order_of_their_draws(tmp_path: Path) -> None:
    module = make_fbnet(candidates=30, table=milliseconds(stem=0.5, head=0.5, blur=0.5, swap=0.5, keep=0.5))
    fit(module, ToyData(), tmp_path, epochs=1, every=1000)
    drawn = [module.sample(draw) for draw in [module.generator("answer")] for _ in range(30)]
    module.answer()
    assert list(module.scored) == list(dict.fromkeys([module.derive(), *drawn]))
    assert len(module.scored) > 5
