"""Commands and Python of README.md and of the site's first pages run, shortened, in the order in which they stand."""

import builtins
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import forget_the_fork_server
from PIL import Image
from tables import write_table

import lightning_nas
from lightning_nas.testing.training import one_thread

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = (ROOT / "docs" / "start" / "shell.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
STARTS = ("python -m lightning_nas", "lightning-nas ")
COMMANDS = [
    command.strip()
    for block in [*BLOCKS, *re.findall(r"```bash\n(.*?)```", SHELL, re.DOTALL)]
    for line in block.splitlines()
    for command in line.split("#")[0].split("&&")
    if command.strip().startswith(STARTS)
]
PYTHON_PAGES = [
    "README.md",
    *(f"docs/{page}.md" for page in ("start/python", "guides/data", "guides/resume", "guides/target", "api/index")),
]
PYTHON = [
    pytest.param(block, id=f"{Path(page).stem}-{number}")
    for page in PYTHON_PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL))
]
ROWS = ["architecture", "test accuracy", "balanced", "to compare", "parameters", "MACs", "latency", "steps"]
ROWS += ["report"]
FAST = ["debug=fast", "logger=none", "latency_table.min_run_time=0.001"]
SHORTER = [
    *(*FAST, "~callbacks.rank_check", "strategy.candidates=2", "strategy.score_batches=1"),
    *("dataset.batch_size=8", "dataset.num_workers=0"),
]
INSTEAD = {  # other options, for commands with some word
    "strategy=spos": {  # milliseconds, which no architecture keeps on a busy machine
        "strategy.candidates=2": ("strategy.generations=2", "strategy.population=2", "strategy.limit=1000")
    },
    "target=2.5": {"dataset.num_workers=0": ("dataset.num_workers=0", "target=1000")},  # likewise
    "strategy=evolution": {
        **dict.fromkeys(("~callbacks.rank_check", "strategy.candidates=2", "strategy.score_batches=1"), ()),
    },
    "strategy=darts": {"strategy.candidates=2": ("trainer.max_epochs=2",)},  # it has none
    "experiment=ranking_hypothesis": {
        "strategy.candidates=2": ("ranking.networks=3", "ranking.epochs=1", "ranking.limit_train_batches=2"),
        "latency_table.min_run_time=0.001": (),
    },
}
BRIEF = ["measure.min_run_time=0.001", "samples=2"]


def rows(text: str) -> list[str]:
    """The first cells of a printed table, without the lines that continue the cell above."""
    cells = [re.split("[│|]", line)[1].strip() for line in text.splitlines() if line.strip()[:1] in ("│", "|")]
    return [cell for cell in cells if cell]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the commands name: ``my.npz``, ``my_images`` and ``my_text.txt``."""
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


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 75


def test_the_first_command_prints_the_table_that_is_shown(workplace: Path) -> None:
    shown = README.partition("```bash")[2].partition("```bash")[0]
    _, *arguments = shlex.split(COMMANDS[0])
    path = os.pathsep.join([str(Path(lightning_nas.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments, *FAST],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    more = {"warning", "Kendall's tau"}  # of a busy machine; where six architectures happen to say something
    assert [row for row in rows(done.stdout) if row not in more] == ROWS
    assert rows(shown) == ROWS


def test_all_other_commands_end_well(workplace: Path) -> None:
    assert len(COMMANDS) > 15
    for command in COMMANDS[1:]:
        if command.startswith("lightning-nas") and not importlib.util.find_spec("lightning_nas.__main__"):
            continue
        assert forked(command) == 0, f"{command}\n{(workplace / 'output').read_text()}"
    table = next(line for line in (workplace / "output").read_text().splitlines() if "latency_table=file" in line)
    assert (workplace / table.partition("latency_table.path=")[2]).is_file()


@pytest.mark.parametrize("block", PYTHON)
def test_a_python_block_prints_what_its_comments_say(block: str, workplace: Path) -> None:
    printed: list[str] = []

    def record(*values: Any) -> None:
        printed.append(" ".join(map(str, values)))
        builtins.print(*values)

    (workplace / "block.py").write_text(shortened(block))
    with one_thread():
        runpy.run_path(str(workplace / "block.py"), init_globals={"print": record})
    said = re.findall(r"^print\(.*?\)(?:  # (.+))?$", block, re.MULTILINE)
    assert len(printed) == len(said)
    assert [line for line, comment in zip(printed, said, strict=True) if comment] == [c for c in said if c]


def shortened(block: str) -> str:
    """Two batches an epoch and no rank check, whichever way the block writes its options."""
    block = re.sub(r"max_epochs=(\d+)", r"max_epochs=\1, limit_train_batches=2, limit_val_batches=1", block)
    block = re.sub(r'"max_epochs": (\d+)', r'"max_epochs": \1, "limit_train_batches": 2', block)
    block = block.replace('logger="none"', 'logger="none", callbacks="none"')
    return block.replace('"logger": "none"', '"logger": "none", "callbacks": "none"')


def forked(command: str) -> int:
    """Exit code of the command in a fork of this process, which has imported torch; its output is in ``output``."""
    words = shlex.split(command)
    module, arguments = ("lightning_nas", words[1:]) if words[0] == "lightning-nas" else (words[2], words[3:])
    short = {"lightning_nas.latency": BRIEF, "lightning_nas.run": SHORTER}.get(module, [])
    short = SHORTER if arguments[0] == "run" else short
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
    """Run a module as ``python -m`` does."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:  # noqa: BLE001 - the fork must not go on as a second pytest
        traceback.print_exc()
        return 1
    return 0
