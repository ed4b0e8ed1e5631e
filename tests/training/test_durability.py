"""Every write, rename and flush of a run fails once; what is on the disk then must resume to the same end."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from durable import PROJECT, durable_files
from pytorch_lightning.loggers import CSVLogger

from lightning_nas.callbacks.base import RecordingCallback
from lightning_nas.callbacks.trial_logger import TrialLogger
from lightning_nas.errors import CheckpointError, EnvironmentFailure
from lightning_nas.experiment.folder import locked
from lightning_nas.strategies.multi_trial.regularized_evolution import RegularizedEvolution
from lightning_nas.testing.multi_trial import ToyEngine
from lightning_nas.testing.toys import ToySpace
from lightning_nas.testing.training import fingerprint, fit, one_thread
from lightning_nas.training.checkpoint import AtomicCheckpointIO, load_checked, newest
from lightning_nas.training.csv_table import CSVTable
from lightning_nas.training.network import quiet_trainer

CALLS = ("write", "fsync", "replace", "unlink", "truncate", "open")


class DiedError(Exception):
    """The process is gone: nothing after this reaches the disk."""


class Disk:
    """The calls of ``os`` that change a folder, of which one is the last.

    Args:
        folder: whose files count.
        last: number of the call that ends everything; None for none.
        power: whether what was not flushed is lost, too.

    Attributes:
        left: what a kill or a power cut before each call leaves, and what the call was; filled if nothing ends.
    """

    def __init__(self, folder: Path, last: int | None = None, *, power: bool = False) -> None:
        self.folder, self.last, self.power = str(folder), last, power
        self.left: dict[tuple[tuple[str, bytes], ...], str] = {}
        self.count, self.log = 0, list[tuple[str, str]]()
        self.flushed: dict[str, int] = {}  # sizes on the disk of files with more in the cache
        self.renamed: list[tuple[str, str, bytes | None]] = []  # not flushed: from, to, what was there
        self.real = {name: getattr(os, name) for name in CALLS}

    @contextmanager
    def attached(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        with patch.context() as patched:
            for name in CALLS:
                patched.setattr(os, name, self._wrapped(name))
            try:
                yield
            finally:
                patched.undo()
                self._lose()

    def _wrapped(self, name: str) -> Callable[..., Any]:
        def call(what: Any, *more: Any, **options: Any) -> Any:
            path = str(Path(f"/proc/self/fd/{what}").readlink()) if isinstance(what, int) else os.fspath(what)
            changes = name != "open" or (more and more[0] & os.O_CREAT)
            if not (str(path).startswith(self.folder) and changes):
                return self.real[name](what, *more, **options)
            self.count += 1
            self.log.append((name, str(path)))
            if self.last is not None and self.count >= self.last:
                if self.count == self.last and name == "write":  # a part of it
                    self._before(name, path, more)
                    self.real[name](what, more[0][: len(more[0]) // 2])
                raise DiedError
            if self.last is None:
                half = more[0][: len(more[0]) // 2] if name == "write" else b""
                self.left.setdefault(self._left(str(path), bytes(half)), f"killed at {name} {path}")
                self.left.setdefault(self._left(), f"power cut at {name} {path}")
            self._before(name, path, more)
            return self.real[name](what, *more, **options)

        return call

    def _before(self, name: str, path: str, more: tuple[Any, ...]) -> None:
        if name == "write":
            self.flushed.setdefault(path, Path(path).stat().st_size)
        elif name == "fsync" and Path(path).is_dir():
            self.renamed = [entry for entry in self.renamed if str(Path(entry[1]).parent) != path]
        elif name == "fsync":
            self.flushed.pop(path, None)
        elif name == "replace":
            to = os.fspath(more[0])
            self.renamed.append((path, to, Path(to).read_bytes() if Path(to).exists() else None))

    def _left(self, path: str = "", half: bytes | None = None) -> tuple[tuple[str, bytes], ...]:
        """The files after a kill that cuts a write to ``path`` in the middle; without, after a power cut."""
        files = {str(file): file.read_bytes() for file in Path(self.folder).rglob("*") if file.is_file()}
        if half is None:
            for name, size in self.flushed.items():
                files |= {name: files[name][:size]} if name in files else {}
            for source, target, before in reversed(self.renamed):
                if target in files:
                    files[source] = files.pop(target)
                    files |= {target: before} if before is not None else {}
        elif half:
            files[path] += half
        return tuple(sorted((str(Path(name).relative_to(self.folder)), content) for name, content in files.items()))

    def _lose(self) -> None:
        """A power cut: undo renames and shorten files that were not flushed."""
        if self.power and self.last is not None:
            for path, size in self.flushed.items():
                if Path(path).exists():
                    os.truncate(path, size)
            for source, target, before in reversed(self.renamed):
                if Path(target).exists():
                    Path(target).replace(source)
                    if before is not None:
                        Path(target).write_bytes(before)


def search(folder: Path, *, resume: Path | None = None, allow_inexact: bool = False) -> dict[str, str]:
    """One attempt, which resumes by itself, with a checkpoint every two trials."""
    folder.mkdir(exist_ok=True)
    module = RegularizedEvolution(ToySpace(5), engine=ToyEngine(noise=0.1), trials=4, population=2, sample=2)
    found = newest(folder / "checkpoints" / "last.ckpt")
    options: dict[str, Any] = {"every": 2, "keep": 2, "resume": resume or (found and found[0])}
    trainer = fit(module, None, folder, epochs=1, callbacks=[TrialLogger()], allow_inexact=allow_inexact, **options)
    return fingerprint(trainer, module, folder) | {"ledger": (folder / "trials.jsonl").read_text()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Disk]:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    disk = Disk(folder)
    with one_thread(), disk.attached(pytest.MonkeyPatch()):
        return search(folder), disk


def test_every_file_is_written_and_flushed_as_the_table_in_the_guide_says(
    undisturbed: tuple[dict[str, str], Disk],
) -> None:
    _, disk = undisturbed
    table = durable_files()
    waiting: set[str] = set()
    for call, path in disk.log:
        name = str(Path(path).relative_to(disk.folder))
        if call == "write" and (temporary := re.fullmatch(r"(.*/)?\.(.*)\.\d+\.tmp", name)):
            how, name = "replaced", (temporary[1] or "") + temporary[2]
        else:
            how = "added to"
        entry = next((entry for pattern, entry in table.items() if fnmatch(name, pattern)), None)
        if call == "write":
            assert entry is not None, f"{name} is not in the table of docs/guides/resume.md"
            assert how == entry[0] or entry[0] == "added to", f"{name} is {how}"  # its header is a whole file
            waiting |= {name} if how == "added to" and not entry[1].startswith("never") else set()
        elif call == "fsync":
            waiting -= {name}
        elif call == "replace" and "last.ckpt." in name:
            assert not waiting, f"a checkpoint counts on {waiting}"


def test_the_table_in_the_guide_names_every_file_of_a_run() -> None:
    reference = (PROJECT / "docs" / "reference" / "run.md").read_text()
    cells = re.findall(r"^\| (`.*?) \|", reference, re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    recorded = [file for made in subclasses(RecordingCallback) for file in made.files]
    assert len(listed) > 15
    for name in {*listed, *recorded} - {"wandb/", "retrain/"}:
        assert any(fnmatch(name, pattern) for pattern in durable_files()), name
    added = [file for file in recorded if durable_files().get(file, ("",))[0] != "added to"]
    assert not added, "tables of callbacks grow with the run"


def test_nothing_else_in_the_package_writes_files() -> None:
    # the last two: the lock, and what runs of a comparison print, which nothing reads
    writers = {"files.py", "trials/ledger.py", "experiment/folder.py", "experiment/comparison/runs.py"}
    for file in (PROJECT / "lightning_nas").rglob("*.py"):
        name = str(file.relative_to(PROJECT / "lightning_nas"))
        if name not in writers and not name.startswith("testing/"):
            found = re.findall(r"\.write_text\(|\.write_bytes\(|open\([^)]*[\"'][wax]b?\+?[\"']", file.read_text())
            assert not found, f"{name}: {found}"


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for made in base.__subclasses__():
        yield made
        yield from subclasses(made)


def test_a_crash_at_any_write_rename_or_flush_resumes_exactly(
    tmp_path: Path, undisturbed: tuple[dict[str, str], Disk]
) -> None:
    expected, whole = undisturbed
    assert whole.count > 60
    assert {call for call, _ in whole.log} == {*CALLS} - {"truncate"}
    with one_thread():
        for number, (files, when) in enumerate(whole.left.items()):
            folder = tmp_path / str(number)
            for name, content in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            ended = search(folder)
            del ended["ledger"]  # has the attempts
            assert ended == {k: v for k, v in expected.items() if k != "ledger"}, when
            assert not list(folder.rglob(".*.tmp")), when


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with one_thread():
        return folder, search(folder)


def _again(finished: tuple[Path, dict[str, str]], folder: Path) -> Path:
    shutil.copytree(finished[0], folder)
    return folder


def _damage(file: str, how: str, folder: Path) -> None:
    path = folder / file
    lines = path.read_text().splitlines(keepends=True)
    if how == "removed":
        path.unlink()
    elif how == "cut":
        path.write_text("".join(lines[:3]) + lines[3][: len(lines[3]) // 2])
    else:
        lines[2] = re.sub(r"0\.\d", "0.9", lines[2]) if how == "changed" else "\0\xff,\n"
        path.write_text("".join(lines), encoding="latin-1")


@pytest.mark.parametrize("how", ["removed", "cut", "changed", "noise"])
@pytest.mark.parametrize("file", ["metrics.csv", "trials.csv", "trials.jsonl"])
def test_a_damaged_record_is_repaired_or_refused(
    tmp_path: Path, finished: tuple[Path, dict[str, str]], file: str, how: str
) -> None:
    folder = _again(finished, tmp_path / "run")
    if (file, how) == ("trials.jsonl", "changed"):
        path = folder / file
        path.write_text(path.read_text().replace('"attempt":1', '"attempt":2', 1))
    else:
        _damage(file, how, folder)
    if file == "trials.csv":
        with pytest.warns(UserWarning, match="is written again"):
            assert search(folder) == finished[1]
        return
    with pytest.raises(CheckpointError, match=rf"{file}.*(another|other) ") as caught:
        search(folder)
    assert str(caught.value).isprintable()


def test_rows_that_are_gone_can_be_given_up(tmp_path: Path, finished: tuple[Path, dict[str, str]]) -> None:
    folder = _again(finished, tmp_path / "run")
    _damage("metrics.csv", "cut", folder)
    with pytest.warns(UserWarning, match="has 2 of the"):
        search(folder, allow_inexact=True)
    assert len(CSVTable(folder / "metrics.csv").read()) == 2


def test_a_checkpoint_of_another_folder_brings_its_records(
    tmp_path: Path, finished: tuple[Path, dict[str, str]]
) -> None:
    early = finished[0] / "checkpoints" / "last-1.ckpt"
    assert search(tmp_path / "elsewhere", resume=early) == finished[1]


def test_a_damaged_checkpoint_never_replaces_an_intact_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def steps() -> dict[str, int | None]:
        def step(file: Path) -> int | None:
            with suppress(CheckpointError):
                return int(load_checked(file)["step"])
            return None

        return {file.name: step(file) for file in sorted(tmp_path.glob("*.ckpt"))}

    path = tmp_path / "last.ckpt"
    disk = AtomicCheckpointIO(keep=2)
    for number in (1, 2):
        disk.save_checkpoint({"step": number}, path)
    for last in range(1, 20):
        path.write_bytes(path.read_bytes()[:-10])
        AtomicCheckpointIO(keep=2).save_checkpoint({"step": 3}, tmp_path / "other.ckpt")
        before = load_checked(tmp_path / "last-1.ckpt")["step"]
        calls = Disk(tmp_path, last, power=bool(last % 2))
        with suppress(DiedError), calls.attached(monkeypatch):
            AtomicCheckpointIO(keep=2).save_checkpoint({"step": before + 1}, path)
        found = newest(path)
        assert found is not None
        assert load_checked(found[0])["step"] >= before, (last, steps(), calls.log)
        disk.save_checkpoint({"step": before + 1}, path)


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_NAS_CACHE", str(tmp_path / "cache"))
    ours, others = (
        (".last.ckpt.123.tmp", "retrain/.metrics.csv.99.tmp", "cache/truth/a/.b.json.7.tmp", "cache/.a.json.7.tmp"),
        (".x.tmp", "a.1.tmp", ".hidden", "wandb/.a.1.tmp", "cache/.new.1.tmp", "cache/a.1.tmp"),
    )
    for name in (*ours, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        if ".new." not in name:
            os.utime(tmp_path / name, (1e9, 1e9))
    with locked(tmp_path):
        assert {name for name in (*ours, *others) if (tmp_path / name).exists()} == set(others)


def test_trials_under_a_plain_trainer_resume_in_any_folder(tmp_path: Path) -> None:
    class SaveAt(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.lightning_module.position == 3:
                trainer.save_checkpoint(tmp_path / "third.ckpt")

    def fitted(name: str, logger: bool, resume: Path | None = None) -> RegularizedEvolution:
        module = RegularizedEvolution(ToySpace(5), engine=ToyEngine(noise=0.1), trials=5, population=2, sample=2)
        trainer = quiet_trainer(1, default_root_dir=tmp_path / name, callbacks=[] if resume else [SaveAt()])
        if logger:
            trainer.loggers = [CSVLogger(tmp_path / name)]
        trainer.fit(module, ckpt_path=resume, weights_only=True)
        return module

    for logger in (False, True):
        whole = fitted("a", logger)
        again = fitted("b", logger, tmp_path / "third.ckpt")
        assert again.history == whole.history
        assert len(again.engine.asked) <= 2, "a finished trial was trained again"


@pytest.mark.parametrize("what", ["run", "run/checkpoints", "run/metrics.csv", "run/trials.jsonl"])
def test_a_folder_that_is_deleted_in_the_middle_ends_with_one_line(tmp_path: Path, what: str) -> None:
    class Deleting(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
            if module.position == 2:
                path = tmp_path / what
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    module = RegularizedEvolution(ToySpace(5), engine=ToyEngine(), trials=9, population=2, sample=2)
    with pytest.raises(EnvironmentFailure, match=r"cannot write|was removed"):
        fit(module, None, tmp_path / "run", epochs=1, every=2, callbacks=[TrialLogger(), Deleting()])
    assert not (tmp_path / what).exists()
