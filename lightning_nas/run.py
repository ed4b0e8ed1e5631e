"""``python -m lightning_nas.run strategy=NAME ...``: search, retrain, test, measure, report, export.

Printing a configuration (``--cfg job``) imports neither torch nor Lightning.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from lightning_nas.cli.command import run_command
from lightning_nas.cli.config.check import check
from lightning_nas.cli.names import own_data, with_folder
from lightning_nas.experiment.process import signals
from lightning_nas.experiment.work import at_work


def main(config: DictConfig) -> float | None:
    """One run: the stages of ``config.stages``, in order.

    Works inside a Hydra application and on what ``hydra.compose`` gives, in a script or a notebook.

    Returns:
        The task's score on the test part (``test_acc``, ``test_ppl``), which a Hydra sweeper may optimise; None if no
        network was tested.
    """
    with_folder(config)
    own_data(config)
    with signals(leaves=True):  # first, since the check may import torch
        check(config)
    with at_work(Path(config.paths.output), config.seed, config.threads, leaves=True):
        from lightning_nas.cli.build import build

        run = build(config)
        if "ranking" in config.stages:
            run.rank()
            return None
        given = None
        if "search" in config.stages:
            run.search()
        else:
            given = run.given(config.architecture)
        if "retrain" in config.stages:
            run.retrain(given)
        run.report()
        if "export" in config.stages and (written := run.export()):
            from lightning_nas.cli.export import lines

            print(lines(written, run.folder / "export"))
        return run.score


if __name__ == "__main__":
    run_command(main, "config")
