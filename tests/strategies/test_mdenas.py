from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from lightning_nas.functional.multinomial import multinomial_update
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.strategies.one_path.mdenas import MdeNAS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.finding import FindingCase
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.searching import PLAIN
from lightning_nas.testing.strategies import StrategyCase
from lightning_nas.testing.toys import ToyData, ToyNodeSpace, ToySpace
from lightning_nas.testing.training import digest, fit
from lightning_nas.training.checkpoint import load_checked
from lightning_nas.training.seeding import seeded


def make_mdenas(seed: int = 0, **options: Any) -> MdeNAS:
    defaults: dict[str, Any] = {
        **PLAIN,
        "path_batches": None,
        "warmup_epochs": 0,
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "calibration_batches": 2,
        "score_batches": 2,
        "path_score_batches": 2,
    }
    with seeded(seed, "supernet"):
        return MdeNAS(ToyNodeSpace(), Classification(), seed=seed, **defaults | options)


SHORT_TURNS = {
    "weights_optimizer": partial(torch.optim.SGD, lr=0.05),
    "path_batches": 1,
    "warmup_epochs": 10,
    "calibration_batches": 8,
    "score_batches": 8,
    "path_score_batches": 8,
}


class TestMdeNAS(StrategyCase):
    """With the later rule it finds the best of 9 in 11 of 20 seeds; random search finds it in 3 of 20.

    Random search answers with one architecture, as this does. The 42 turns give a score each, of paths in training; one
    who scored as many architectures at random would see all nine.
    """

    search_options: ClassVar = SHORT_TURNS | {"rule": "safe"}
    search_epochs, search_seeds, found_at_least = 16, 7, 3

    @pytest.fixture
    def make(self) -> Callable[..., MdeNAS]:
        return make_mdenas


class TestThePapersRule(FindingCase):
    """It finds the best in 7 of 20 seeds; random search, which answers with one architecture too, in 3 of 20.

    It finds no more even where accuracies have no noise: what is trained more can only fall.
    """

    search_options: ClassVar = SHORT_TURNS | {"rule": "paper"}
    search_epochs, search_seeds, found_at_least = 16, 8, 3

    @pytest.fixture
    def make(self) -> Callable[..., MdeNAS]:
        return make_mdenas


class Turns(Callback):
    """What is drawn in each batch, and what is kept after it."""

    def __init__(self) -> None:
        self.paths: list[list[tuple[int, ...]]] = []
        self.kept: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, t: Any, m: MdeNAS, batch: Any, i: int) -> None:
        self.paths.append(list(m.gates(m.generator("weights")).active["layers"]))

    def on_train_batch_end(self, t: Any, m: MdeNAS, outputs: Any, batch: Any, i: int) -> None:
        tables = {"p": m.multinomials, "epochs": m.trained, "accuracies": m.accuracies}
        self.kept.append({name: table["layers"].clone() for name, table in tables.items()})


@pytest.mark.parametrize(("path_batches", "length"), [(None, 4), (2, 2)])
def test_a_path_is_trained_for_a_whole_turn(path_batches: int | None, length: int, tmp_path: Path) -> None:
    module, turns = make_mdenas(path_batches=path_batches), Turns()
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=4, every=1000, callbacks=[turns])
    assert module.turns == 16 // length
    groups = [turns.paths[start : start + length] for start in range(0, 16, length)]
    assert all(path == group[0] for group in groups for path in group)
    assert len({tuple(group[0]) for group in groups}) > 1


def test_a_turn_updates_drawn_options_and_all_probabilities(tmp_path: Path) -> None:
    module, turns = make_mdenas(path_batches=1, alpha=0.03), Turns()
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=5, every=1000, callbacks=[turns])
    p, epochs = torch.full((2, 3), 1 / 3), torch.zeros(2, 3)
    accuracies = torch.full((2, 3), float("nan"))
    for path, kept in zip(turns.paths, turns.kept, strict=True):
        for choice, (option,) in enumerate(path):
            epochs[choice, option] += 1
            accuracies[choice, option] = kept["accuracies"][choice, option]
        torch.testing.assert_close(kept["accuracies"], accuracies, equal_nan=True)
        assert torch.equal(kept["epochs"], epochs)
        p = multinomial_update(p, epochs, accuracies, 0.03, "paper")
        torch.testing.assert_close(kept["p"], p)
    assert (p != 1 / 3).any()
    torch.testing.assert_close(module.probabilities()["layers"], p)


def test_the_accuracy_of_a_path_leaves_the_supernet_unchanged(tmp_path: Path) -> None:
    module, data = make_mdenas(path_batches=1), ToyData(304, val_fraction=0.15)
    fit(module, data, tmp_path, epochs=2, every=1000)
    before = digest(module.state_dict())
    path = module.space.gates(module.space.best)
    measured = module.accuracy(path)
    assert digest(module.state_dict()) == before
    arch = list(data.evaluation_loader("arch"))[:2]
    assert measured == module.score(module.space.best, part="arch")
    val = {image.numpy().tobytes() for x, _ in data.evaluation_loader("val") for image in x}
    assert not val & {image.numpy().tobytes() for x, _ in arch for image in x}


def test_no_turn_during_warm_up(tmp_path: Path) -> None:
    module, turns = make_mdenas(path_batches=1, warmup_epochs=2), Turns()
    module.check_length = lambda *_: None  # type: ignore[method-assign]
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=2, every=1000, callbacks=[turns])
    assert module.turns == 0
    assert torch.equal(module.probabilities()["layers"], torch.full((2, 3), 1 / 3))
    assert len({str(path) for path in turns.paths}) > 2


def test_short_turns_resume_to_the_bit(tmp_path: Path) -> None:
    data = ToyData(304, val_fraction=0.15)
    resume_everywhere(partial(make_mdenas, path_batches=3, warmup_epochs=1), data, tmp_path, epochs=3, every=2)


def test_multinomials_are_in_checkpoints(tmp_path: Path) -> None:
    module = make_mdenas(path_batches=1)
    fit(module, ToyData(304, val_fraction=0.15), tmp_path, epochs=2, every=1000)
    stored = load_checked(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert torch.equal(stored["multinomials.layers"], module.probabilities()["layers"])


def test_in_cells_every_edge_has_an_operation_and_the_space_derives() -> None:
    space = DARTSSpace(image_size=8, in_channels=1, num_classes=4, cells=3, channels=4, evaluation=None)
    module = MdeNAS(space, Classification(), weights_optimizer=partial(torch.optim.SGD, lr=0.1))
    drawn = module.draw_path(torch.Generator().manual_seed(0))
    assert all(len(active) == 1 for rows in drawn.active.values() for active in rows)
    assert {group: len(rows) for group, rows in drawn.active.items()} == {"normal": 14, "reduce": 14}
    best = space.sample(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for group, rows in space.gates(best).values.items():
            module.multinomials[group].copy_(0.9 * rows + 0.1 / rows.shape[1])
    assert module.choose() == best


def test_the_chain_is_answered_by_the_most_probable_options() -> None:
    module = MdeNAS(ToySpace(), Classification(), weights_optimizer=partial(torch.optim.SGD, lr=0.1))
    module.multinomials["layers"].copy_(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]))
    assert str(module.choose()) == "swap keep"
