"""Networks for several targets from the supernet of one finished search, without training again."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from lightning_nas.architecture import Architecture
from lightning_nas.bars import tracked
from lightning_nas.errors import ConfigError, shown
from lightning_nas.experiment.inherited import inherit, inherits_nothing, write_inherited
from lightning_nas.experiment.resume import checkpoint_to_resume
from lightning_nas.experiment.retrain import keep_trained, note_test
from lightning_nas.experiment.search import build_strategy, steps_of
from lightning_nas.experiment.settings import Retraining
from lightning_nas.experiment.targets import met
from lightning_nas.experiment.trainer import make_trainer
from lightning_nas.export.trained import sizes_of
from lightning_nas.files import atomic, write_json
from lightning_nas.latency.macs import count_macs, count_params
from lightning_nas.latency.table import LatencyTable
from lightning_nas.report.specialised import write_page
from lightning_nas.strategies.base import SearchModule
from lightning_nas.strategies.target import Target
from lightning_nas.training.checkpoint import newest
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.exact import fit
from lightning_nas.training.recalibrate import recalibrate

if TYPE_CHECKING:
    from lightning_nas.experiment.run import Run

log = logging.getLogger(__name__)

_FILE = "specialised.csv"
_LEVELS = 5  # uniform networks, from the smallest to the largest


@dataclass(frozen=True)
class Network:
    """A row of ``specialised.csv``.

    Attributes:
        kind: "specialised" for a target, "uniform" for one that has the same share of the options everywhere.
        name: the target in words, or the share.
        asked: the target; None for a uniform network.
        cost: by the table, in the unit of the target.
        measured_ms: latency on this machine; None for a uniform network.
        params: number of parameters.
        macs: number of multiply-adds.
        figure: the task's, on the test part.
        samples: of the test part.
        architecture: its choices.
        folder: with ``report.html`` and the exported files; empty for a uniform network.
    """

    kind: str
    name: str
    asked: float | None
    cost: float
    measured_ms: float | None
    params: int
    macs: int
    figure: float
    samples: int
    architecture: str
    folder: str = ""


def specialise(
    run: Run,
    source: Path,
    out: Path,
    targets: Mapping[str, Sequence[float]],
    *,
    table: LatencyTable | None = None,
    formats: Sequence[str] | None = None,
) -> list[Network]:
    """Answer a finished search once more for each target, and test, report and export the networks.

    The networks have the weights of the supernet, with batch norm recalibrated. Beside them stand uniform networks:
    the smallest, the largest and up to three between, which take the same share of the options at every decision, if
    their costs rise.

    Args:
        run: built from the configuration of the search.
        source: folder of the search.
        out: folder of what is written: ``specialised.csv``, ``specialised.html``, and a folder for each target.
        targets: costs of each kind: "table", "ms", "macs" and "params".
        table: of the device; None for that of the search.
        formats: of the exports; None for the usual ones.

    Raises:
        ConfigError: the search is not finished, its networks share no weights, no network keeps a target, or the
            folder holds networks already.
        CheckpointError: the checkpoint of the search is damaged.
    """
    if (out / _FILE).exists():
        raise ConfigError(f"{shown(out)} holds networks already, which are not overwritten; name another folder, out=")
    checkpoint, file = _finished(run, source), source / "latency_table.json"
    searched = LatencyTable.load(file).check(run.space) if file.exists() else None
    known = searched if table is None else table.check(run.space)
    run = replace(
        run,
        table=lambda _: known,
        folder=out,
        stages=("search",),
        callbacks=list,
        loggers=[],
        retraining=Retraining(from_="inherited"),
        resuming=replace(run.resuming, allow_inexact=True),
        formats=formats,
    )
    if (reason := inherits_nothing(run)) is not None:
        raise ConfigError(f"specialise: {reason}")
    bounds = {  # an impossible one is refused before the first is answered
        f"{kind}-{cost:.10g}": Target.of(run.space, known, {kind: cost}, run.seed)
        for kind, costs in targets.items()
        for cost in costs
    }
    if not bounds:
        raise ConfigError("specialise: there is no target; give at least one cost")
    conditions = {} if searched is None else {"latency table": searched.digest[:16]}
    module, trainer = _restored(run, checkpoint, known, conditions)
    rows = []
    for name, target in tracked(list(bounds.items()), "networks for targets", hidden=not run.progress):
        module.target = target
        rows.append(_specialised(run, module, trainer, out / name))
    rows += _uniform(run, module)
    CSVTable(out / _FILE).write([asdict(row) for row in rows])
    write_page(out, run.task.score_name)
    return rows


def _finished(run: Run, source: Path) -> Path:
    """The last checkpoint of a search that is finished."""
    opened = newest(source / "checkpoints" / "last.ckpt")
    if opened is None or not (source / "architecture.json").exists():
        raise ConfigError(
            f"{shown(source)} holds no finished search; go on with ckpt_path=last, or name another folder"
        )
    path, content = opened
    done, planned = content["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"], run.record["trainer"]
    if done < (planned.get("max_epochs") or 0):
        raise ConfigError(
            f"the search in {shown(source)} ended after {done} of {planned['max_epochs']} epochs; legal: a whole one"
        )
    return Path(path)


def _restored(
    run: Run, checkpoint: Path, table: LatencyTable | None, conditions: dict[str, str]
) -> tuple[SearchModule, pl.Trainer]:
    """The strategy as it was at the end of the search, and the Trainer that has brought it there."""
    module = build_strategy(run, table)
    assert isinstance(module, SearchModule), "its networks share weights"
    with TemporaryDirectory() as folder, warnings.catch_warnings():  # a checkpoint at the end is that of the search
        warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint")
        trainer = make_trainer(replace(run, folder=Path(folder)), "", [], conditions=conditions)
        fit(trainer, module, checkpoint_to_resume(str(checkpoint), trainer, module), datamodule=run.data)
    module.to(trainer.strategy.root_device)  # Lightning has put it back on the CPU
    return module, trainer


def _specialised(run: Run, module: SearchModule, trainer: pl.Trainer, folder: Path) -> Network:
    assert module.target is not None
    within = " and ".join(map(str, module.target.limits))
    figures = {"steps": steps_of(module), "answer_rule": f"{module.answer_rule}; within {within}"}
    own = replace(run, folder=folder, figures=figures, warnings=[], next_best=[], found=None, _network=None)
    with own.at_work():
        own.found = answer = met(own, module, trainer, module.answer)
        write_inherited(own, module, answer)
        network = own.home(answer).network(answer)
        inherit(own, answer, network)
        with atomic(folder / "config.yaml") as file:
            file.write(own.write_record)
        answer.save(folder / "architecture.json", sizes_of(own.home(answer), own.data.num_classes))
        write_json(folder / "retrain" / "preprocessing.json", own.data.preprocessing().model_dump(mode="json"))
        note_test(own, network)
        keep_trained(own, answer, network.eval())
    own._network = network
    own.report()
    own.export()
    [noted, *_] = own.figures["targets"]
    return Network(
        kind="specialised",
        name=folder.name,
        asked=noted["asked"],
        cost=noted["cost"],
        measured_ms=own.figures.get("latency_measured_ms"),
        params=own.figures["params"],
        macs=own.figures["macs"],
        figure=own.figures[f"test_{own.task.score_name}"],
        samples=own.data.sizes["test"],
        architecture=str(answer),
        folder=str(folder),
    )


def _uniform(run: Run, module: SearchModule) -> list[Network]:
    """Networks with the same share of the options at every decision; none where that does not make larger ones."""
    assert module.target is not None
    rows, levels = [], dict[Architecture, float]()
    for share in (level / (_LEVELS - 1) for level in range(_LEVELS)):
        options = [(d.name, d.options[round(share * (len(d.options) - 1))]) for d in run.space.decisions]
        levels.setdefault(run.space.canonical(Architecture(run.space.name, tuple(options))), share)
    for architecture, share in levels.items():
        network = module.inherited(architecture)
        recalibrate(network, module.calibration())
        figure = run.task.evaluate(network, run.data.evaluation_loader("test"), run.data.num_classes)
        rows.append(
            Network(
                kind="uniform",
                name=f"{share:.0%} of the options",
                asked=None,
                cost=module.target.costs(architecture)[0],
                measured_ms=None,
                params=count_params(network),
                macs=count_macs(network, run.space.input_shape, run.space.input_dtype),
                figure=figure,
                samples=run.data.sizes["test"],
                architecture=str(architecture),
            )
        )
    costs = [row.cost for row in rows]
    return sorted(rows, key=lambda row: row.cost) if len(costs) > 1 and _monotone(costs) else []


def _monotone(values: Sequence[float]) -> bool:
    """Whether the values rise all the way, or fall.

    >>> _monotone([1, 2, 4]), _monotone([4, 2, 1]), _monotone([1, 3, 2]), _monotone([1, 1])
    (True, True, False, False)
    """
    return any(all(sign * before < sign * after for before, after in pairwise(values)) for sign in (1, -1))
