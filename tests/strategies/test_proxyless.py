import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from lightning_nas.errors import ConfigError
from lightning_nas.functional.reinforce import reinforce_loss
from lightning_nas.functional.relaxation import keep_total, straight_through
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.base import WeightSharingSpace
from lightning_nas.spaces.chains.proxyless import ProxylessNASSpace
from lightning_nas.strategies.differentiable import proxyless
from lightning_nas.strategies.differentiable.proxyless import ProxylessNAS
from lightning_nas.strategies.penalties import AddLinear, MnasNetProduct, MulLog
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.searching import PLAIN_ARCH
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToySpace, toy_images
from lightning_nas.testing.training import fit, one_thread
from lightning_nas.training.seeding import seeded

ALPHA = torch.tensor([[0.2, -0.1, 0.4]], dtype=torch.float64)
PENALTIES = {
    "full": MulLog(beta=0.2),
    "two_path": AddLinear(0.02),
    "reinforce": MnasNetProduct(alpha=-0.02, beta=-0.02),
}


def make_proxyless(
    seed: int = 0, space: WeightSharingSpace | None = None, update: str = "full", **options: Any
) -> ProxylessNAS:
    space = space or ToySpace()
    defaults: dict[str, Any] = {
        **PLAIN_ARCH,
        "arch_every": 1,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.0, 0.999)),
        "penalty": PENALTIES[update],
        "update": update,
        "calibration_batches": 2,
        "score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return ProxylessNAS(space, Classification(), Macs()(space), seed=seed, **defaults | options)


# as in the paper the weights learn first, else the logits follow what untrained options do
SEARCHING: dict[str, Any] = {
    "arch_warmup_epochs": 5,
    "arch_optimizer": partial(torch.optim.Adam, lr=0.1, betas=(0.0, 0.999)),
}


class TestProxylessFull(StrategyCase):
    @pytest.fixture
    def make(self) -> Callable[..., ProxylessNAS]:
        return make_proxyless

    search_epochs = 11
    search_options = SEARCHING


class Shorter(StrategyCase):
    __test__ = False
    epochs = 1
    search_epochs = 11
    search_options = SEARCHING
    search_seeds = 4
    found_at_least = 3  # a step of two paths says nothing of the third; chance finds it so often in 1 case of 199


@pytest.mark.parametrize("update", ["two_path", "reinforce"])
@pytest.mark.parametrize(
    "test",
    [
        StrategyCase.test_each_step_leaves_the_other_group_untouched,
        StrategyCase.test_resuming_from_any_batch_equals_never_having_stopped,
        StrategyCase.test_two_processes_end_equal,
    ],
    ids=lambda test: test.__name__,
)
def test_the_other_updates_pass_the_suite(update: str, test: Callable[..., None], tmp_path: Path) -> None:
    with one_thread():
        test(Shorter(), partial(make_proxyless, update=update), ToyData(), tmp_path)


@pytest.mark.parametrize(("update", "options"), [("two_path", {}), ("reinforce", {"samples": 3, "arch_every": 2})])
def test_the_other_updates_find_the_best_toy_architecture(update: str, options: dict[str, int], tmp_path: Path) -> None:
    make = partial(make_proxyless, update=update, **options)
    with one_thread():
        Shorter().test_it_finds_the_best_toy_architecture_more_often_than_random_search(make, ToyData(), tmp_path)


# -- the paper's numbers ---------------------------------------------------------------------------------------------


def test_the_full_update_has_the_worked_gradient() -> None:
    alpha = ALPHA.clone().requires_grad_()
    p = alpha.softmax(-1)
    torch.testing.assert_close(p, torch.tensor([[0.3375845, 0.2500888, 0.4123267]]).double(), atol=1e-7, rtol=0)
    gates = straight_through(torch.tensor([[0.0, 1.0, 0.0]]).double(), p)
    assert gates.tolist() == [[0.0, 1.0, 0.0]]
    (gates * torch.tensor([[1.0, -2.0, 0.5]])).sum().backward()
    expected = torch.tensor([[0.3228759, -0.5110740, 0.1881981]]).double()
    torch.testing.assert_close(alpha.grad, expected, atol=1e-7, rtol=0)


def test_the_two_path_update_has_the_worked_values() -> None:
    pair = torch.tensor([[0, 2]])
    alpha = ALPHA.clone().requires_grad_()
    q = alpha.gather(1, pair).softmax(-1)
    torch.testing.assert_close(q, torch.tensor([[0.4501660, 0.5498340]]).double(), atol=1e-7, rtol=0)
    (straight_through(torch.tensor([[1.0, 0.0]]).double(), q) * torch.tensor([[1.0, 0.5]])).sum().backward()
    expected = torch.tensor([[0.1237583, 0.0, -0.1237583]]).double()
    torch.testing.assert_close(alpha.grad, expected, atol=1e-7, rtol=0)
    kept = keep_total(torch.tensor([[0.21, 0.37]]).double(), ALPHA.gather(1, pair))
    torch.testing.assert_close(kept, torch.tensor([[0.2217951, 0.3817951]]).double(), atol=1e-7, rtol=0)
    assert ALPHA.scatter(1, pair, kept).softmax(-1)[0, 1].item() == pytest.approx(0.2500888, abs=1e-7)


def test_a_certain_choice_costs_its_table_entry() -> None:
    module = make_proxyless()
    with torch.no_grad():
        module.theta["layers"].copy_(torch.tensor([[0.0, 0.0, 100.0], [100.0, 0.0, 0.0]]))
    _, expected = module.binary_gates(module.generator("arch"))
    architecture = module.space.validate({"layer_1": "keep", "layer_2": "blur"})
    assert module.table is not None
    assert module.cost(expected).item() == pytest.approx(module.space.cost(architecture, module.table))


# -- gradients against exact enumeration -----------------------------------------------------------------------------

TABLE = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.7, -1.0], [2.0, 0.0, 0.1]])  # a loss, multilinear in the gates
LOGITS = torch.tensor([[0.2, -0.1, 0.4], [-0.3, 0.5, 0.0]])


def with_logits(**options: Any) -> ProxylessNAS:
    module = make_proxyless(**options)
    module.theta["layers"].data.copy_(LOGITS)
    return module


def value(rows: Tensor) -> Tensor:
    return rows[0] @ TABLE @ rows[1]


def exact_gradient() -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(logits.softmax(-1)), logits)
    return gradient


def test_the_full_update_is_the_gradient_of_the_expected_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    module, p, mean = with_logits(penalty=None), LOGITS.softmax(-1), torch.zeros(2, 3)
    module.held_out_loss = lambda batch, gates: value(gates.values["layers"])  # type: ignore[method-assign]
    for path in itertools.product(range(3), repeat=2):
        drawn = torch.tensor(path)[:, None]
        monkeypatch.setattr(proxyless, "_draw", lambda *_, drawn=drawn: drawn)
        module.zero_grad()
        module.arch_loss((torch.zeros(0), torch.zeros(0))).backward()
        gradient = module.theta["layers"].grad
        assert gradient is not None
        mean += p[0, path[0]] * p[1, path[1]] * gradient
    torch.testing.assert_close(mean, exact_gradient())


def test_reinforce_is_unbiased_for_every_baseline() -> None:
    for baseline in (0.0, 0.7):
        logits, mean = LOGITS.clone().requires_grad_(), torch.zeros(2, 3)
        for first, second in itertools.product(range(3), repeat=2):
            log = logits.log_softmax(-1)[0, first] + logits.log_softmax(-1)[1, second]
            loss = reinforce_loss(log[None], TABLE[first, second][None], baseline)
            (gradient,) = torch.autograd.grad(loss, logits)
            mean += log.exp().detach() * gradient
        torch.testing.assert_close(-mean, exact_gradient())


def test_reinforce_draws_from_the_logits_and_moves_its_baseline() -> None:
    class OneProcess:
        strategy = None

        @staticmethod
        def reduce(rewards: Tensor, reduce_op: str) -> Tensor:
            assert reduce_op == "mean"
            return rewards

    OneProcess.strategy = OneProcess
    module = with_logits(update="reinforce", samples=2000)
    module._trainer, module._fabric = OneProcess, None  # type: ignore[assignment]
    module.reward = lambda batch, gates: value(gates.values["layers"]).item()  # type: ignore[method-assign]
    module.log_batch = lambda *_: None  # type: ignore[method-assign]
    batch = torch.zeros(0), torch.zeros(0)
    module.arch_loss(batch).backward()
    gradient = module.theta["layers"].grad
    assert gradient is not None
    torch.testing.assert_close(-gradient, exact_gradient(), atol=0.09, rtol=0)
    first = module.baseline
    assert first == pytest.approx(value(LOGITS.softmax(-1)).item(), abs=0.09)
    module.reward = lambda batch, gates: 5.0  # type: ignore[method-assign]
    module.arch_loss(batch)
    assert module.baseline == pytest.approx(0.01 * first + 0.99 * 5.0)


def test_the_reward_is_accuracy_traded_for_cost() -> None:
    images, labels = toy_images(64, seed=0)
    batch = images.float() / 255, labels
    plain = make_proxyless(update="reinforce", penalty=None)
    traded = make_proxyless(update="reinforce", penalty=MnasNetProduct(400.0, alpha=-0.1, beta=-0.1))
    gates = plain.space.gates(plain.space.best)
    accuracy = (plain.supernet(batch[0], gates).argmax(-1) == labels).float().mean().item()
    assert plain.reward(batch, gates) == pytest.approx(accuracy)
    assert traded.table is not None
    cost = traded.space.cost(traded.space.best, traded.table)
    assert traded.reward(batch, gates) == pytest.approx(accuracy * (400 / cost) ** 0.1)


# -- what takes no step ----------------------------------------------------------------------------------------------


class Watch(Callback):
    """Calls a function with the probabilities before and after each batch."""

    def __init__(self, compare: Callable[[Tensor, Tensor], None], group: str) -> None:
        self.compare, self.group = compare, group

    def on_train_batch_start(self, t: Any, module: Any, batch: Any, i: int) -> None:
        self.before = module.probabilities()[self.group]

    def on_train_batch_end(self, t: Any, module: Any, outputs: Any, batch: Any, i: int) -> None:
        self.compare(self.before, module.probabilities()[self.group])


def test_two_path_leaves_all_other_probabilities_unchanged(tmp_path: Path) -> None:
    changed = []

    def compare(before: Tensor, after: Tensor) -> None:
        changed.append((~torch.isclose(before, after, rtol=0, atol=1e-6)).sum(-1))

    # momentum and decay would move the others too
    adam = partial(torch.optim.Adam, lr=0.1, weight_decay=0.1)
    module = make_proxyless(update="two_path", arch_optimizer=adam)
    fit(module, ToyData(), tmp_path, epochs=2, every=1000, callbacks=[Watch(compare, "layers")])
    assert len(changed) > 8
    assert max(int(rows.max()) for rows in changed) == 2


def small(*, fused: bool = True) -> ProxylessNASSpace:
    shape = {"stem": (4, 1), "first": 4, "stages": [(4, 2, 1)], "mix": 8}
    return ProxylessNASSpace("small", image_size=8, in_channels=1, num_classes=4, fused=fused, **shape)


@pytest.mark.parametrize("penalty", [None, AddLinear(1.0)])
def test_zero_active_gives_no_gradient(monkeypatch: pytest.MonkeyPatch, penalty: AddLinear | None) -> None:
    module = make_proxyless(space=small(), penalty=penalty)
    for zeros in ([], [1], [0, 1]):
        drawn = torch.tensor([[6] if row in zeros else [2] for row in range(2)])
        monkeypatch.setattr(proxyless, "_draw", lambda *_, drawn=drawn: drawn)
        module.zero_grad()
        module.arch_loss((torch.rand(4, 1, 8, 8), torch.arange(4))).backward()
        gradient = module.theta["blocks"].grad
        assert gradient is not None
        assert [row for row in range(2) if not gradient[row].any()] == zeros


def step_lengths(gradients: list[float | None]) -> list[float]:
    """Steps of the optimiser on one logit; None is a step that the released code leaves out."""
    logit = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    adam, places = torch.optim.Adam([logit], lr=0.1, betas=(0.0, 0.999)), [0.0]
    for gradient in gradients:
        logit.grad = None if gradient is None else torch.tensor([gradient], dtype=torch.float64)
        adam.step()
        places.append(logit.item())
    return [abs(b - a) for a, b in itertools.pairwise(places)]


def test_steps_after_those_without_a_step_are_longer_by_what_the_page_says() -> None:
    first = step_lengths([0.0, 1.0])[1] / step_lengths([None, 1.0])[1]
    many = 7000
    ours, theirs = ([1.0 if i % 7 else skipped for i in range(many)] for skipped in (0.0, None))
    later = step_lengths(ours)[-1] / step_lengths(theirs)[-1]
    assert first == pytest.approx(1.41, abs=5e-3)
    assert later == pytest.approx(1.08, abs=5e-3)
    page = Path(__file__).parents[2].joinpath("docs/methods/proxyless.md").read_text(encoding="utf-8")
    assert "by 41 %" in page
    assert "by 8 %" in page


@pytest.mark.parametrize("update", ["full", "two_path", "reinforce"])
def test_the_weights_step_runs_one_option_a_choice(update: str) -> None:
    module, ran = make_proxyless(space=small(fused=False), update=update), []
    for row, block in enumerate(module.supernet.blocks):
        for name in block.names:
            block[name].register_forward_hook(lambda *_, row=row: ran.append(row))
    module.weights_loss((torch.rand(4, 1, 8, 8), torch.arange(4))).backward()
    assert ran == [0, 1]
    assert all(theta.grad is None for theta in module.theta.values())


def test_the_architecture_step_runs_all_options_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for update, count in (("full", 7), ("two_path", 2)):
        gates, _ = make_proxyless(space=small(), update=update).binary_gates(torch.Generator().manual_seed(0))
        assert [len(set(row)) for row in gates.active["blocks"]] == [count, count]
        assert gates.values["blocks"].sum(-1).tolist() == [1.0, 1.0]
        assert gates.values["blocks"].max(-1).values.tolist() == [1.0, 1.0]


def test_paths_are_drawn_as_often_as_the_logits_say() -> None:
    module, generator = with_logits(update="two_path"), torch.Generator().manual_seed(0)
    pairs = torch.stack([module._paths(module.theta["layers"], generator) for _ in range(3000)])
    p = LOGITS[0].softmax(-1).tolist()
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in itertools.permutations(range(3), 2)}
    for pair, chance in expected.items():
        share = (pairs[:, 0] == torch.tensor(pair)).all(-1).float().mean().item()
        assert share == pytest.approx(chance, abs=0.035)


def test_reinforce_without_a_reward_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategy/penalty=proxyless_reward"):
        make_proxyless(update="reinforce", penalty=AddLinear())


def test_the_logits_begin_small_and_are_a_function_of_the_seed() -> None:
    module = make_proxyless(seed=1)
    assert 0 < module.theta["layers"].abs().max().item() < 5e-3
    assert torch.equal(module.theta["layers"], make_proxyless(seed=1).theta["layers"])
    assert not torch.equal(module.theta["layers"], make_proxyless(seed=2).theta["layers"])
