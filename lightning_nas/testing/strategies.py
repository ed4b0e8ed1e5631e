"""The conformance suite of strategies that share weights."""

from __future__ import annotations

from lightning_nas.testing.answering import AnsweringCase
from lightning_nas.testing.finding import FindingCase
from lightning_nas.testing.repeating import RepeatingCase
from lightning_nas.testing.stepping import SteppingCase


class StrategyCase(SteppingCase, RepeatingCase, AnsweringCase, FindingCase):
    """Proves a strategy: subclass, and give the fixture ``make``.

    ``make(seed=0, **options)`` gives a fresh strategy on :class:`~lightning_nas.testing.toys.ToySpace` (one that runs
    one option at a time, and learns through gates, on :class:`~lightning_nas.testing.toys.ToyNodeSpace`, which says
    why), its supernet's weights drawn from ``seed`` (see :func:`~lightning_nas.training.seeding.seeded`), with
    ``options`` passed on to the strategy's constructor.
    """
