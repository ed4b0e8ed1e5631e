"""The search stage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.progress import SearchProgress
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.errors import ConfigError
from lightning_nas.experiment.resume import checkpoint_to_resume
from lightning_nas.experiment.trainer import make_trainer, stage_seconds
from lightning_nas.latency.table import LatencyTable
from lightning_nas.spaces.base import SearchSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.seeding import generator, seeded

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)

_DRAWN = 2  # architectures besides the answer


def search(run: Run, table: LatencyTable | None) -> Architecture:
    """Search, write ``architecture.json``, and note what the result needs.

    Raises:
        NumericalError: the search went wrong; no architecture is written.
    """
    callbacks = [run.bar("search") if type(made) is SearchProgress else made for made in run.callbacks()]
    conditions = {} if table is None else {"latency table": table.digest[:16]}
    module = build_strategy(run, table)
    if isinstance(module, TrialSearch) and module.engine.digest:
        conditions["results"] = module.engine.digest
    trainer = make_trainer(run, "", callbacks, conditions=conditions)
    checkpoint = checkpoint_to_resume(run.checkpoint, trainer, module)
    if isinstance(module, TrialSearch):
        answer = _by_trials(run, module, trainer, checkpoint)
    else:
        trainer.fit(module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
        answer = _of_shared_weights(run, module, trainer, callbacks)
    if trainer.is_global_zero:
        answer.save(run.folder / "architecture.json")
        if ignores_its_input(run.space, answer):
            log.warning("no path of the answer leads from its input to its output: it can only guess")
    run.figures["search_seconds"] = stage_seconds(trainer)
    return answer


def ignores_its_input(space: SearchSpace, architecture: Architecture) -> bool:
    """Whether the network gives every input the same output, as a cell does whose edges are cut.

    Args:
        space: of the architecture, if it is one of :meth:`~lightning_nas.spaces.base.SearchSpace.network`'s.
        architecture: of the network.
    """
    if architecture.space != space.name:
        return False
    rng = generator(0, "two inputs")
    with seeded(0, "two inputs"), torch.no_grad():
        outputs = space.network(architecture).eval()(space.example(2, rng))
    return bool(torch.equal(outputs[0], outputs[1]))


def _by_trials(run: Run, module: TrialSearch, trainer: pl.Trainer, checkpoint: Path | None) -> Architecture:
    try:
        trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    finally:  # however it ends, no child is left alone
        module.engine.close()
    module.check_parameters()
    for name, rows in module.tables().items():
        table = CSVTable(run.folder / f"{name}.csv")
        table.cut(0)
        table.extend(rows)
    answer = module.answer()
    best = sorted((entry for entry in module.history if not entry[0].failed), key=lambda entry: -entry[1])
    ranked = dict.fromkeys(run.space.canonical(trial.architecture) for trial, _ in best)
    run.next_best = [other for other in ranked if other != run.space.canonical(answer)][:_DRAWN]
    return answer


def _of_shared_weights(
    run: Run, module: SearchModule, trainer: pl.Trainer, callbacks: list[pl.Callback]
) -> Architecture:
    module.check_parameters()
    module.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    healthy = next((c.healthy for c in callbacks if isinstance(c, SearchHealth) and c.healthy), None)
    architecture: Architecture = trainer.strategy.broadcast(healthy or module.answer())
    if trainer.is_global_zero:
        for callback in callbacks:
            if isinstance(callback, ArchitectureLogger):
                callback.record_candidates(trainer, module)
            if isinstance(callback, RankCheck):
                run.figures |= {"kendall_tau": callback.tau, "kendall_tau_macs": callback.tau_macs}
        _write_evolution(run, module)
    return architecture


def _write_evolution(run: Run, module: SearchModule) -> None:
    table = CSVTable(run.folder / "evolution.csv", ("generation", "key", "score", "cost", "choices"))
    table.cut(0)
    for candidate in module.evolved:
        taken = candidate.architecture
        row = {"generation": candidate.generation, "key": taken.key, "score": candidate.score, "cost": candidate.cost}
        table.append(row | {"choices": str(taken)})


def build_strategy(run: Run, table: LatencyTable | None) -> SearchModule | TrialSearch:
    """The strategy on the run's space, its weights drawn from the seed."""
    more = {} if run.engine is None else {"engine": run.engine()}
    with seeded(run.seed, "supernet"):
        module = run.strategy(run.space, run.task, table, seed=run.seed, **more)
    if table is None and module.table is not None:  # measured by the strategy, which a run must be told to do
        raise ConfigError("this strategy needs a latency table: latency_table=measured, macs, params or file")
    return module
