"""A mistake in the configuration ends the command with one line and exit code 2, before anything is made."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, Commands

# found by every python at its start
NO_TORCH = """
import atexit, os, sys
atexit.register(lambda: "torch" in sys.modules and (sys.stderr.write("torch was imported"), os._exit(99)))
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["straegy=fbnet"], ["straegy", "did you mean 'strategy'?"]),
        (["xyz=1"], ["xyz", "legal: ", "search_space", "debug", "seed"]),
        (["strategy=fbnett"], ["strategy: there is no preset 'fbnett'; did you mean 'fbnet'?"]),
        (["proxy=zen"], ["proxy: nothing here takes a score; add strategy=proxy, or child=proxy"]),
        (["search_space=fbnet_smal"], ["search_space: there is no preset 'fbnet_smal'; did you mean 'fbnet_small'?"]),
        (["debug=xyz"], ["debug: there is no preset 'xyz'; legal: fast, trials"]),
        (["fbnet"], ["cannot read 'fbnet'; did you mean search_space=fbnet or strategy=fbnet?"]),
        (["--multirn", "seed=1,2"], ["'--multirn': there is no such flag; did you mean '--multirun'?"]),
        (["--cfg", "jobs"], ["--cfg", "'jobs'", "'job'"]),
        (["seed=1", "--config-dir"], ["--config-dir", "expected one argument"]),
        (["trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean 'max_epochs'?"]),
        (["+trainer.max_epoch=3"], ["trainer.max_epoch", "did you mean 'max_epochs'?"]),
        (["traner.max_epochs=3"], ["traner", "did you mean 'trainer.max_epochs'?"]),
        (["strategy.answer_by=best"], ["strategy.answer_by", "'best'", "'sample'", "'argmax'"]),
        (["retrain.epochs=many"], ["retrain.epochs", "'many'", "legal: int >= 1"]),
        (["seed=-1"], ["seed", "-1", "legal: int >= 0"]),
        (["seed=[1"], ["cannot read 'seed=[1'"]),
        (["stages=[serch]"], ["stages", "serch", "'search', 'retrain'"]),
        (["stages=[retrain,search]"], ["stages", "legal: [search], [retrain], [search,retrain]"]),
        (["trainer.gradient_clip_val=1"], ["trainer.gradient_clip_val", "strategy.weights_clip"]),
        (["trainer.accumulate_grad_batches=2"], ["strategy.accumulate"]),
        (["trainer.precision=bf16-true"], ["trainer.precision", "bf16-mixed"]),
        (["-m", "straegy=fbnet,darts"], ["straegy", "did you mean 'strategy'?"]),
        (["--config-dir", "nowhere"], ["nowhere"]),
    ],
    ids=" ".join,
)
def test_a_mistake_names_what_is_legal(cli: Commands, arguments: list[str], words: list[str]) -> None:
    ended = cli.run(*arguments)
    ended.refused(*words)
    assert ended.seconds < 60, "less than a run takes"


def test_mistakes_at_the_top_level_are_found_without_torch(cli: Commands) -> None:
    (cli.folder / "sitecustomize.py").write_text(NO_TORCH)
    for argument, word in {"straegy=fbnet": "strategy", "retrain.epochs=0": "retrain.epochs"}.items():
        ended = cli.process(argument, PYTHONPATH=f"{cli.folder}:{ROOT}").wait()
        ended.refused(word)


def test_a_mistake_in_an_entry_is_found_in_a_real_process(cli: Commands) -> None:
    cli.process("strategy.alpha=two").wait().refused("strategy.alpha: got 'two'; legal: float > 0")


def test_printing_the_configuration_needs_no_torch(cli: Commands) -> None:
    (cli.folder / "sitecustomize.py").write_text(NO_TORCH)
    seconds = []
    for _ in range(3):
        ended = cli.process("--cfg", "job", PYTHONPATH=f"{cli.folder}:{ROOT}").wait()
        assert ended.code == 0, ended.err
        assert "_target_: lightning_nas.strategies.differentiable.fbnet.FBNet" in ended.out
        seconds.append(ended.seconds)
    assert min(seconds) < 2 * max(1.0, _interpreter_seconds() / 0.05), "2 s on a machine that starts python in 50 ms"


def _interpreter_seconds() -> float:
    code = "import time; t = time.perf_counter(); import hydra; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 6


def test_a_file_in_the_way_of_the_folder_is_an_input_error(cli: Commands) -> None:
    (cli.folder / "file").touch()
    cli.run(f"hydra.run.dir={cli.folder}/file/run").refused("file/run")
    cli.run(f"hydra.run.dir={cli.folder}/run", f"paths.output={cli.folder}/file/run").refused(
        "cannot write", "file/run"
    )


def test_nothing_but_the_log_is_written_when_the_configuration_is_wrong(cli: Commands) -> None:
    cli.run(f"hydra.run.dir={cli.folder}/run", "retrain.epochs=0").refused("retrain.epochs")
    left = {path.name for path in Path(cli.folder / "run").iterdir()}
    assert left <= {".hydra", "lightning_nas.log"}
