"""``python -m lightning_nas.run strategy=NAME ...``: search, retrain, test, measure, report.

Printing a configuration (``--cfg job``) imports neither torch nor Lightning.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, open_dict

from lightning_nas.cli.command import run_command
from lightning_nas.cli.config.check import check
from lightning_nas.experiment.process import process


def main(config: DictConfig) -> None:
    """One run: the stages of ``config.stages``, in order."""
    own_data(config)
    check(config)
    with process(config.threads):
        from lightning_nas.experiment.folder import is_first_process, locked
        from lightning_nas.experiment.loggers import closed
        from lightning_nas.experiment.prepare import given_architecture, latency_table, prepare
        from lightning_nas.experiment.ranking import rank
        from lightning_nas.experiment.result import write_result
        from lightning_nas.experiment.retrain import check_retraining, retrain
        from lightning_nas.experiment.search import search
        from lightning_nas.training.seeding import seed_everything

        seed_everything(config.seed, "run")
        with locked(Path(config.paths.output)), closed():
            run = prepare(config)
            if "retrain" in config.stages:
                check_retraining(run)
            if "ranking" in config.stages:
                if is_first_process():
                    rank(run)
                return
            table = latency_table(run)
            architecture = search(run, table) if "search" in config.stages else given_architecture(run)
            again = "retrain" in config.stages
            network = retrain(run, architecture) if again else run.home(architecture).network(architecture)
            if is_first_process():
                write_result(run, architecture, network, table)


def own_data(config: DictConfig) -> None:
    """Wrap a LightningDataModule that is not of this library, so that a search gets its four parts in our order."""
    node = config.dataset
    if not str(node.get("_target_", "")).startswith("lightning_nas."):
        sizes = dict.fromkeys(("image_size", "channels", "num_classes", "search_classes"))
        wrapper = {"_target_": "lightning_nas.data.adapt.AdaptedData", "module": node, "seed": config.seed, **sizes}
        with open_dict(config):
            config.dataset = wrapper


if __name__ == "__main__":
    run_command(main, "config")
