"""The sandwich rule with in-place distillation, on a person's own network."""

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.nn import functional as F

from lightning_nas.errors import ConfigError
from lightning_nas.latency.sources import Macs
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.strategies.one_path.spos import SPOS
from lightning_nas.tasks.classification import Classification
from lightning_nas.testing.repeating import resume_everywhere
from lightning_nas.testing.toys import SIZE, ToyData, ToySpace
from lightning_nas.testing.training import fit
from lightning_nas.training.seeding import generator


def make(seed: int = 0, sampling: str = "sandwich", **options: Any) -> SPOS:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4)),
        )
    defaults: dict[str, Any] = {
        "weights_optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        "weights_scheduler": None,
    }
    space = FromModel(net, (1, 1, SIZE, SIZE))
    return SPOS(space, seed=seed, sampling=sampling, generations=1, population=2, parents=1, **defaults | options)


def test_a_step_has_the_gradients_of_labels_and_of_distillation(tmp_path: Path) -> None:
    module, seen = make(weights_optimizer=partial(torch.optim.SGD, lr=0.0), weights_clip=None), []

    class Watch(Callback):
        def on_before_optimizer_step(self, t: Any, m: Any, optimizer: Any) -> None:
            seen.append([p.grad.clone() for p in m.parameters()])

        def on_train_batch_end(self, t: Any, m: SPOS, outputs: Any, batch: Any, i: int) -> None:
            (x, y), draw = batch["weights"], generator(m.seed, "weights", m.position)
            paths = [m.space.smallest, *(m.space.sample(draw) for _ in range(2))]
            largest = m.supernet(x, m.space.gates(m.space.largest))
            teacher = F.log_softmax(largest, 1).detach()
            loss = F.cross_entropy(largest, y)
            for path in paths:
                student = F.log_softmax(m.supernet(x, m.space.gates(path)), 1)
                loss = loss + F.kl_div(student, teacher, reduction="batchmean", log_target=True)
            expected = torch.autograd.grad(loss, list(m.parameters()))
            torch.testing.assert_close(seen[-1], list(expected), rtol=1e-4, atol=1e-6)

    fit(module, ToyData(304), tmp_path, epochs=1, every=1000, callbacks=[Watch()])
    assert len(seen) == module.weights_steps > 2


def test_a_trained_network_is_searched_without_training(tmp_path: Path) -> None:
    """The answer is the best of all eight architectures by their scores, found by brute force."""
    trained = make(sampling="uniform")
    fit(trained, ToyData(304), tmp_path / "trained", epochs=2, every=1000)
    net = trained.space.extract(trained.supernet, trained.space.largest)
    rules = [{"match": "2", "width": {"ratios": [0.25, 0.5, 0.75, 1]}}, {"match": "0", "width": {"ratios": [0.5, 1]}}]
    space = FromModel(net, (1, 1, SIZE, SIZE), rules)
    search = SPOS(space, Classification(), Macs()(space), sampling="none", generations=6, population=8, parents=4)
    before = [parameter.clone() for parameter in search.supernet.parameters()]
    fit(search, ToyData(304), tmp_path / "searched", epochs=1, every=1000)
    answer = search.answer()
    torch.testing.assert_close(before, list(search.supernet.parameters()), rtol=0, atol=0)
    every = [
        space.validate(dict(zip((d.name for d in space.decisions), c, strict=True)))
        for c in product(*(d.options for d in space.decisions))
    ]
    assert answer == min(every, key=lambda a: (-search.score(a), space.cost(a, search.table)))
    assert search.steps_taken == {"weights": 0}


def test_it_resumes_to_the_bit(tmp_path: Path) -> None:
    resume_everywhere(make, ToyData(304, val_fraction=0.15), tmp_path, epochs=1)


def test_a_space_without_a_largest_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="networks of toy are not parts of a largest one; legal: uniform, fair"):
        SPOS(ToySpace(), sampling="sandwich")
    with pytest.raises(ConfigError, match="sampling=none: the networks of toy are not parts"):
        SPOS(ToySpace(), sampling="none")
