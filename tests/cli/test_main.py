"""The console command: help at once, one module per sub-command, and a child process that finds the module again."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import ROOT, TINY, Commands
from hydra import compose, initialize_config_dir

from lightning_nas.cli.command import conf_dir
from lightning_nas.cli.explain import asked_for
from lightning_nas.cli.listing import LISTS
from lightning_nas.cli.main import COMMANDS, FIRST_STEPS, main

# as setuptools writes the script: `__main__` has no name to import it by
SCRIPT = "import sys; from lightning_nas.cli.main import main; sys.exit(main())"
WATCHING = """
import atexit, os, sys
loaded = lambda: {"torch", "hydra", "omegaconf"} & {*sys.modules}
atexit.register(lambda: loaded() and (sys.stderr.write(f"imported {loaded()}"), os._exit(99)))
"""


def script(cli: Commands, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script in a process of its own."""
    import os

    env = {**os.environ, **cli.environment, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cli.folder, env=env, timeout=600)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["list", "strategies"], ["--version"]])
def test_help_and_lists_import_neither_torch_nor_hydra(cli: Commands, arguments: list[str]) -> None:
    (cli.folder / "sitecustomize.py").write_text(WATCHING)
    ended = cli.process(*arguments, module="lightning_nas", PYTHONPATH=f"{cli.folder}:{ROOT}").wait()
    assert ended.code == 0, ended.err
    assert ended.out
    if not arguments:
        assert ended.out.startswith("lightning-nas: ")
        assert FIRST_STEPS in ended.out
        assert all(f"\n  {name} " in ended.out for name in COMMANDS)
        assert max(map(len, ended.out.splitlines())) <= 80


def test_the_help_of_a_run_begins_with_the_same_commands(cli: Commands) -> None:
    header = yaml.safe_load((Path(conf_dir()) / "hydra/default.yaml").read_text())["help"]["header"]
    assert header.partition("\n\n")[2] == FIRST_STEPS
    ended = cli.run("--help")
    assert ended.code == 0
    assert ended.out.startswith(header)
    assert "strategy: asha, attentive, bananas, bignas, block_qnn, " in ended.out


def test_the_first_commands_are_legal() -> None:
    commands = [shlex.split(line) for line in FIRST_STEPS.splitlines() if line.startswith("  ")]
    assert len(commands) == 5
    for program, command, *arguments in commands:
        assert program == "lightning-nas"
        if command == "run":
            with initialize_config_dir(conf_dir(), version_base="1.3"):
                compose("config", [*arguments, "paths.output=''"], return_hydra_config=True)
        elif command == "list":
            assert arguments[0] in LISTS
        else:
            asked_for(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lst"], "did you mean 'list'?"),
        (["zzz"], "legal: compare, evaluate, explain, export, latency, list, predict, run, specialise"),
        (["strategy=fbnet"], "did you mean 'lightning-nas run strategy=fbnet'?"),
        (["-m"], "did you mean 'lightning-nas run -m'?"),
        (["list", "strategys"], "did you mean 'strategies'?"),
        (["list", "search_space"], "did you mean 'spaces'?"),
        (["list"], "e.g. lightning-nas list strategies"),
        (["list", "zoo", "spaces"], "list takes one name, got 2"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning-nas"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_run_is_the_module_that_python_runs(cli: Commands) -> None:
    arguments = ["--cfg", "job", "strategy=darts", "seed=3"]
    ended = cli.process(*arguments).wait()
    done = script(cli, "run", *arguments)
    assert (done.returncode, done.stdout) == (ended.code, ended.out)
    assert "_target_: lightning_nas.strategies.differentiable.darts.DARTS" in done.stdout
    refused = script(cli, "run", "straegy=darts")
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("error: straegy: ")


def test_a_command_is_known_by_its_module_and_sees_its_arguments(cli: Commands) -> None:
    # what Lightning starts again for a second process is `python -m __main__.__spec__.name` with sys.argv[1:]
    (cli.folder / "told.py").write_text("import __main__, sys\nprint(__main__.__spec__.name, sys.argv[1:])\n")
    code = SCRIPT.replace("import main;", "import COMMANDS, main; COMMANDS['told'] = ('told', '');")
    done = subprocess.run(
        [sys.executable, "-c", code, "told", "a=1", "-m"], capture_output=True, text=True, cwd=cli.folder, timeout=600
    )
    assert done.stdout == "told ['a=1', '-m']\n", done.stderr


def test_the_console_script_sweeps_and_resumes(cli: Commands) -> None:
    folder = cli.folder / "sweep"
    tiny = [*TINY, "stages=[search]", "~callbacks.rank_check", "trainer.max_epochs=1", "trainer.limit_train_batches=4"]
    tiny = [text for text in tiny if not text.startswith("callbacks.rank_check.")]
    done = script(cli, "run", "-m", *tiny, "seed=0,1", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=s/${seed}")
    assert done.returncode == 0, done.stderr[-2000:]
    results = [json.loads((folder / "s" / seed / "result.json").read_text()) for seed in "01"]
    assert [result["seed"] for result in results] == [0, 1]
    assert " s/1 " in done.stdout[done.stdout.rindex("on fbnet_small") :]
    again = script(cli, "run", *tiny, "seed=1", f"hydra.run.dir={folder}/s/1", "ckpt_path=last")
    assert again.returncode == 0, again.stderr[-2000:]
    assert json.loads((folder / "s/1/result.json").read_text())["architecture"] == results[1]["architecture"]
