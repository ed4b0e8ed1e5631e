"""Every one-shot strategy on NAS-Bench-201's cells with equal budget, judged by the table of their trained accuracies.

    export LIGHTNING_NAS_DATA=FOLDER
    python benchmarks/nasbench201_one_shot.py IMAGES.npz [KEY=VALUE ...] [--epochs 10 --seeds 0 1 2]

FOLDER holds nasbench201.npz; IMAGES.npz has x_train and y_train, square images such as CIFAR-10's. The strategies are
those of conf/strategy, with the settings of their files; random search with shared weights is always among them. All
run the same epochs over the same images in the same batches, in the same supernet (without affine batch norm, as the
benchmark's authors search), and their warm-ups are the same share of them as of the epochs in their files, rounded
down; KEY=VALUE goes to each of them. Each run is a process of its own, on a GPU if there is one.

A row is one run: its steps (weights+architecture), the test accuracy after 200 epochs of the cell it derived, Kendall's
tau of its scores against those accuracies (CIFAR-10) on random cells with a 95 % bootstrap interval, tau of
multiply-adds alone on the same cells, the seconds of the whole process (its start, the rank check and the choice of the
answer included) and those of its processor, and the peak memory: of the process, and what torch had on the GPU. FBNet's
loss has a penalty on multiply-adds here, as its file says.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import hydra
import torch

from lightning_nas.architecture import Architecture
from lightning_nas.cli.command import conf_dir, run_command
from lightning_nas.run import main as run_main
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.truth.nasbench201 import DATASETS, NasBench201Table, table_file

ONE = "--one-run"  # before the arguments of a child process


def overrides(name: str, seed: int, folder: Path, given: argparse.Namespace) -> list[str]:
    """The arguments of one run."""
    space = [f"search_space.channels={given.channels}", f"search_space.cells={[given.cells] * 3}"]
    rank = [
        f"architectures={given.architectures}",
        f"every_n_epochs={given.epochs}",
        f"top_k={given.architectures // 5}",
    ]
    return [
        f"strategy={name}",
        *("search_space=nasbench201", *space, "search_space.affine=false", "latency_table=macs"),
        *("dataset=npz", f"dataset.path={given.images.resolve()}", "dataset.arch_fraction=0.5"),
        *("rank_check.truth=table", "callbacks.rank_check.truth.any_data=true"),  # the file holds the table's images
        *(f"callbacks.rank_check.{setting}" for setting in rank),
        *(f"trainer.max_epochs={given.epochs}", f"seed={seed}", f"threads={given.threads}", "stages=[search]"),
        *("logger=none", "~callbacks.architecture_logger", f"hydra.run.dir={folder}"),
        *(*scaled(name, given.epochs), *given.settings),
    ]


def scaled(name: str, epochs: int) -> list[str]:
    """The lengths of a strategy's file, scaled from its epochs to ``epochs``."""
    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        config = hydra.compose("config", [f"strategy={name}", "paths.output=''"])
    share = epochs / config.trainer.max_epochs
    keys = ("arch_warmup_epochs", "warmup_epochs", "stage_epochs")
    return [f"strategy.{key}={int(config.strategy[key] * share)}" for key in keys if key in config.strategy]


def one_run() -> None:
    """In the child: a run of the library; the last line printed says what it took."""
    sys.argv.remove(ONE)
    try:
        run_command(run_main, "config")
    finally:
        gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(json.dumps({"ram": used.ru_maxrss * 1024, "gpu": gpu, "cpu": used.ru_utime + used.ru_stime}))


def row(name: str, seed: int, given: argparse.Namespace) -> list[str]:
    """Run a strategy; the cells of its row, or why it has none."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "run"
        command = [sys.executable, __file__, ONE, *overrides(name, seed, folder, given)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["?"])[-1]
            return [name, str(seed), "", f"failed: {last}", *[""] * 8]
        took = json.loads(done.stdout.strip().splitlines()[-1])
        result = json.loads((folder / "result.json").read_text())
        rank = list(csv.DictReader((folder / "rank.csv").open()))[-1]
    architecture = Architecture.from_dict(result["architecture"])
    space = NASBench201Space()
    memory = f"{took['ram'] / 2**20:.0f}" + (f" + {took['gpu'] / 2**20:.0f} GPU" if took["gpu"] else "")
    tau = f"{number(rank['kendall_tau'])} [{number(rank['low'])}, {number(rank['high'])}]"
    return [
        *(name, str(seed), "+".join(str(count) for count in result["steps"].values() if count is not None)),
        *(f"{accuracy:.2%}" for accuracy in result["tabulated_acc"].values()),
        *(tau, number(rank["kendall_tau_macs"]), f"{seconds:.0f}", f"{took['cpu']:.0f}", memory),
        f"`{space.to_string(architecture)}`".replace("|", "\\|"),
    ]


def number(text: str) -> str:
    """A figure of a table of the run; it may not be defined."""
    return f"{float(text):.3f}" if text else "-"


def show(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def references(file: Path) -> None:
    """Rows to compare with."""
    table = NasBench201Table(file, [(dataset, "test", 200) for dataset in DATASETS])
    for name, of in (("the best cell", max), ("the mean of all cells", fmean)):
        columns = ([table.accuracy(cell, dataset) for cell in table.cells] for dataset in DATASETS)
        show([name, "", "", *(f"{of(column):.2%}" for column in columns), *[""] * 6])


def main() -> None:
    found = sorted(file.stem for file in (Path(conf_dir()) / "strategy").glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--strategies", nargs="+", default=found, choices=found, help="all unless given")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    for name, default in (("epochs", 10), ("architectures", 50), ("channels", 16), ("cells", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_intermixed_args()
    file = table_file(None)
    if file is None or not file.is_file():
        parser.error("LIGHTNING_NAS_DATA must name a folder with nasbench201.npz")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {given.threads} thread(s)"
    print(f"{' '.join(sys.argv[1:])}; torch {torch.__version__}; {device}\n")
    head = [
        "strategy",
        "seed",
        "steps",
        *DATASETS.values(),
        "tau",
        "tau of MACs",
        "seconds",
        "CPU seconds",
        "MiB",
        "cell",
    ]
    show(head)
    show(["---"] * len(head))
    references(file)
    for name in dict.fromkeys(("random_ws", *given.strategies)):
        for seed in given.seeds:
            show(row(name, seed, given))


if __name__ == "__main__":
    one_run() if ONE in sys.argv else main()
