"""Training of trials in a search that was given none, with the settings of conf/child."""

from __future__ import annotations

from functools import partial

from torch.optim import ASGD, SGD

from lightning_nas.tasks.base import Task
from lightning_nas.tasks.language_modelling import LanguageModelling
from lightning_nas.trials.child import Child


def usual_child(task: Task, epochs: int = 3) -> Child:
    """Three epochs with the optimiser of a retraining, as in conf/child/default.yaml, or another number of them."""
    if isinstance(task, LanguageModelling):
        optimizer = partial(ASGD, lr=10.0, lambd=0.0, t0=1e12, weight_decay=8e-7)
        return Child(epochs=epochs, optimizer=optimizer, clip=0.25)
    return Child(epochs=epochs, optimizer=partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4))


def inheriting_child() -> Child:
    """Two epochs with a smaller rate, for trials that inherit weights, as in conf/child/inheriting.yaml."""
    return Child(epochs=2, optimizer=partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4))
