"""Every command of README.md runs, shortened, in the order in which it stands there."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from commands import forget_the_fork_server
from PIL import Image
from tables import write_table

import lightning_nas
from lightning_nas.testing.training import one_thread

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    command.strip()
    for line in "".join(BLOCKS).splitlines()
    for command in line.split("#")[0].split("&&")
    if command.strip().startswith("python -m lightning_nas")
]
ROWS = ["architecture", "test accuracy", "parameters", "MACs", "latency", "Kendall tau", "report"]
FAST = ["debug=fast", "logger=none", "latency_table.min_run_time=0.001"]
SHORTER = [
    *(*FAST, "~callbacks.rank_check", "strategy.candidates=2", "strategy.score_batches=1"),
    *("dataset.batch_size=8", "dataset.num_workers=0"),
]
INSTEAD = {  # of an option of these, in commands with some word
    "strategy=spos": {  # milliseconds, which on a machine that is busy no architecture keeps
        "strategy.candidates=2": ("strategy.generations=2", "strategy.population=2", "strategy.limit=1000")
    },
    "strategy=evolution": {
        "debug=fast": ("debug=trials",),
        **dict.fromkeys(("~callbacks.rank_check", "strategy.candidates=2", "strategy.score_batches=1"), ()),
    },
    "experiment=ranking_hypothesis": {
        "strategy.candidates=2": ("ranking.networks=3", "ranking.epochs=1", "ranking.limit_train_batches=2"),
        "latency_table.min_run_time=0.001": (),
    },
}
BRIEF = ["measure.min_run_time=0.001", "samples=2"]


def rows(text: str) -> list[str]:
    """The first cells of a printed table; without those of lines that go on with the cell above."""
    cells = [re.split("[│|]", line)[1].strip() for line in text.splitlines() if line.strip()[:1] in ("│", "|")]
    return [cell for cell in cells if cell]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands speak of: ``my.npz``, ``my_images`` and ``my_text.txt``."""
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (120, 12, 12), dtype=np.uint8), np.arange(120) % 2
    np.savez(tmp_path / "my.npz", x_train=pixels[:100], y_train=labels[:100], x_test=pixels[100:], y_test=labels[100:])
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "my_images" / "train" / "ab"[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "my_text.txt").write_text("one word after the other\n" * 100)
    monkeypatch.setenv("LIGHTNING_NAS_DATA", str(write_table(tmp_path).parent))
    monkeypatch.setenv("LIGHTNING_NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_two_commands_stand_first() -> None:
    assert BLOCKS[0].strip() == "pip install -e . && python -m lightning_nas.run strategy=fbnet"
    assert BLOCKS[1].strip() == 'pip install -e ".[dev]" && pytest -n 2 --dist loadfile'


def test_the_first_command_prints_the_table_that_is_shown(workplace: Path) -> None:
    shown = README.partition("```bash")[2].partition("```bash")[0]
    _, *arguments = shlex.split(COMMANDS[0])
    path = os.pathsep.join([str(Path(lightning_nas.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments, *FAST],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout) == ROWS
    assert rows(shown) == ROWS


def test_all_other_commands_end_well(workplace: Path) -> None:
    assert len(COMMANDS) > 1
    for command in COMMANDS[1:]:
        if "engine=ray" in command:  # tests/children/test_ray_engine.py has clusters
            continue
        assert forked(command) == 0, f"{command}\n{(workplace / 'output').read_text()}"
    table = next(line for line in (workplace / "output").read_text().splitlines() if "latency_table=file" in line)
    assert (workplace / table.partition("latency_table.path=")[2]).is_file()


def test_the_python_blocks_print_what_their_comments_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "block.py").write_text(block)
        runpy.run_path(str(tmp_path / "block.py"))
        assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*  # (.+)", block)


def forked(command: str) -> int:
    """Exit code of the command in a fork of this process, which has torch imported already; says more in ``output``."""
    _, _, module, *arguments = shlex.split(command)
    short = {"lightning_nas.run": SHORTER, "lightning_nas.latency": BRIEF}[module]
    instead = {o: others for word, own in INSTEAD.items() if word in arguments for o, others in own.items()}
    short = [word for option in short for word in instead.get(option, (option,))]
    with one_thread():
        child = os.fork()
        if child == 0:
            forget_the_fork_server()
            output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            with os.fdopen(1, "w", closefd=False) as sys.stdout, os.fdopen(2, "w", closefd=False) as sys.stderr:
                sys.argv = [module, *arguments, *short]
                code = _code(module)
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _code(module: str) -> int:
    """Runs a module as ``python -m`` does."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:  # noqa: BLE001 - the fork must not go on as a second pytest
        traceback.print_exc()
        return 1
    return 0
