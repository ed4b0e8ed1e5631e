"""The search stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_nas.architecture import Architecture
from lightning_nas.callbacks.architecture_logger import ArchitectureLogger
from lightning_nas.callbacks.progress import SearchProgress
from lightning_nas.callbacks.rank_check import RankCheck
from lightning_nas.callbacks.search_health import SearchHealth
from lightning_nas.experiment.inherited import check_answer, write_inherited
from lightning_nas.experiment.memory import training_memory, within_memory
from lightning_nas.experiment.rehearsal import rehearse
from lightning_nas.experiment.resume import checkpoint_to_resume
from lightning_nas.experiment.targets import met
from lightning_nas.experiment.trainer import make_trainer, stage_seconds
from lightning_nas.export.trained import sizes_of
from lightning_nas.latency.table import LatencyTable
from lightning_nas.ops.outputs import output_of
from lightning_nas.report.choices import Choices
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.multi_trial.base import TrialSearch
from lightning_nas.strategies.usual import unmeasured
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.exact import fit
from lightning_nas.training.seeding import generator, seeded

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

_DRAWN = 2  # architectures besides the answer
_ENOUGH = 30  # weights steps of an option
_FEW = 10  # architecture steps


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
    if isinstance(module, SearchModule):
        check_answer(run, module)
    rehearse(trainer, module, run.data, callbacks, training_memory(run.trainer))
    checkpoint = checkpoint_to_resume(run.checkpoint, trainer, module)
    if isinstance(module, TrialSearch):
        answer = _by_trials(run, module, trainer, checkpoint)
    else:
        fit(trainer, module, checkpoint, datamodule=run.data)
        answer = _of_shared_weights(run, module, trainer, callbacks)
    if trainer.is_global_zero:
        answer.save(run.folder / "architecture.json", sizes_of(run.home(answer), run.data.num_classes))
        if ignores_its_input(run.space, answer):
            run.warn("no path of the answer leads from its input to its output: it can only guess")
    run.figures |= {"search_seconds": stage_seconds(trainer), "steps": steps_of(module)}
    rule = "kept when callbacks.search_health stopped the search" if stopped(callbacks) else module.answer_rule
    within = " and ".join(map(str, module.target.limits)) if module.target else ""
    run.figures["answer_rule"] = f"{rule}; within {within}" if within else rule
    return answer


def ignores_its_input(space: SearchSpace, architecture: Architecture) -> bool:
    """Whether the network gives every input the same output, as a cell does whose edges are cut.

    Batch norm uses the statistics of the two inputs, so that a deep network with fresh weights tells them apart.

    Args:
        space: of the architecture, if it is one of :meth:`~lightning_nas.spaces.base.SearchSpace.network`'s.
        architecture: of the network.
    """
    if architecture.space != space.name:
        return False
    rng = generator(0, "two inputs")
    with seeded(0, "two inputs"), torch.no_grad():
        network = space.network(architecture).eval()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        outputs = output_of(network, space.example(2, rng))
    return bool(torch.equal(outputs[0], outputs[1]))


def stopped(callbacks: Sequence[pl.Callback]) -> Architecture | None:
    """The architecture that an early stop by a callback kept; None if there was none."""
    return next((c.healthy for c in callbacks if isinstance(c, SearchHealth) and c.healthy), None)


def steps_of(module: SearchModule | TrialSearch) -> dict[str, int | None]:
    """How many steps of each kind led to the answer; None for a kind that the strategy does not have."""
    taken = {"trials": len(module.history)} if isinstance(module, TrialSearch) else module.steps_taken
    return {kind: taken.get(kind) for kind in ("weights", "architecture", "trials")}


def doubts(module: SearchModule, trainer: pl.Trainer, answer: Architecture, *, early: bool = False) -> list[str]:
    """What speaks against an answer: an early end, hardly trained options, few steps, choices left untouched, ties.

    Args:
        module: after the search.
        trainer: of the search.
        answer: of the search.
        early: whether an early end was asked for.
    """
    said, (done, planned) = [], (trainer.current_epoch, trainer.max_epochs)
    if planned is not None and done < planned and not early:
        said.append(f"the search ended after {done} of {planned} epochs: its schedules were made for all of them")
    if (updates := module.updates) < _ENOUGH:
        about = f"{updates:.0f}" if updates >= 1 else f"{updates:.1f}"
        said.append(
            f"each option was trained in about {about} steps of the weights, too few to compare options: give "
            "trainer.max_epochs more"
        )
    if (taken := module.steps_taken.get("architecture", _FEW)) < _FEW:
        said.append(
            f"the architecture took {taken} step{'s' * (taken != 1)}, too few to decide between options: give "
            "trainer.max_epochs more"
        )
    untouched, names = module.untouched(), Choices.of(module.space, answer)
    rows = sum(choices for choices, _ in module.space.gate_shapes.values())
    left = [names.name(group, choice) for group, found in untouched.items() for choice in found]
    if left:
        said.append(
            f"{len(left)} of {rows} choices are as undecided as at the beginning, no step moved them: {some(left)}"
        )
    tied = [
        names.name(group, choice)
        for group, found in module.tied().items()
        for choice in found
        if choice not in untouched.get(group, ())
    ]
    if tied:
        said.append(f"{len(tied)} of {rows} choices have several options of the same largest probability: {some(tied)}")
    return said


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _by_trials(run: Run, module: TrialSearch, trainer: pl.Trainer, checkpoint: Path | None) -> Architecture:
    try:
        fit(trainer, module, checkpoint, **({"datamodule": run.data} if module.looks_at_data else {}))
    finally:  # however it ends, no child is left alone
        module.engine.close()
    module.check_parameters()
    for name, rows in module.tables().items():
        CSVTable(run.folder / f"{name}.csv").write(rows)
    answer = met(run, module, trainer, module.answer)
    run.next_best = _next_best(run, module, answer)
    if 0 < (done := len(module.history)) <= module.blind:
        run.warn(
            f"the answer is that of a random search: {run.names.strategy} proposes its first {module.blind:,} "
            f"trials before it heeds any result, and there were {done:,}; give strategy.trials more"
        )
    return answer


def _next_best(run: Run, module: TrialSearch, answer: Architecture) -> list[Architecture]:
    """The architectures with the highest rewards after the answer; few of all trials are read from the disk."""
    rewards = module.rewards
    own, found = run.space.canonical(answer), dict[Architecture, None]()
    for place in sorted(range(len(rewards)), key=lambda place: -rewards[place]):
        trial = module.history[place][0]
        form = run.space.canonical(trial.architecture)
        kept = module.target is None or module.target.keeps(form)
        if not trial.failed and form != own and kept:
            found[form] = None
        if len(found) == _DRAWN:
            break
    return list(found)


def _of_shared_weights(
    run: Run, module: SearchModule, trainer: pl.Trainer, callbacks: list[pl.Callback]
) -> Architecture:
    module.check_parameters()
    module.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    healthy = stopped(callbacks)

    def choose() -> Architecture:
        found = module.kept(healthy, module.generator("answer")) if healthy else module.answer()
        return trainer.strategy.broadcast(found)

    architecture = met(run, module, trainer, choose)
    if trainer.is_global_zero:
        write_inherited(run, module, architecture)
    trainer.strategy.barrier()  # the file is there for all processes
    if trainer.is_global_zero:
        for doubt in doubts(module, trainer, architecture, early=healthy is not None):
            run.warn(doubt)
        for callback in callbacks:
            if isinstance(callback, ArchitectureLogger):
                callback.record_candidates(trainer, module)
            if isinstance(callback, RankCheck):
                run.figures |= callback.figures()
                for doubt in callback.doubts():
                    run.warn(doubt)
        _write_evolution(run, module)
    return architecture


def _write_evolution(run: Run, module: SearchModule) -> None:
    rows = []
    for candidate in module.evolved:
        taken = candidate.architecture
        row = {"generation": candidate.generation, "key": taken.key, "score": candidate.score, "cost": candidate.cost}
        rows.append(row | {"choices": str(taken)})
    CSVTable(run.folder / "evolution.csv").write(rows)


def build_strategy(run: Run, table: LatencyTable | None) -> SearchModule | TrialSearch:
    """The strategy on the run's space, its weights drawn from the seed."""
    more: dict[str, Any] = {} if run.engine is None else {"engine": run.engine()}
    if run.target:
        more["target"] = run.target
    with seeded(run.seed, "supernet"), unmeasured():
        module: SearchModule | TrialSearch = within_memory(
            "this supernet" if isinstance(run.space, WeightSharingSpace) and run.engine is None else "this strategy",
            lambda: run.strategy(run.space, run.task, table, seed=run.seed, **more),
            memory=training_memory(run.trainer),
        )
    return module
