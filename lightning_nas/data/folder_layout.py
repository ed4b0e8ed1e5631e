"""Layout of a folder of images: its parts, its classes, and what in it is no image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from lightning_nas.errors import DataError, shown

_PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_PICTURES = (".avif", ".dcm", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".npy", ".svg", ".tga")
_NO_DATA = ("__MACOSX", "__pycache__", "@eaDir")


@dataclass
class Layout:
    """The images of a folder.

    Attributes:
        root: the folder.
        train: folder of the training images; the root itself where it holds the class folders.
        classes: names of the class folders of the training images, in the order of the labels.
        files: the images of each part "train", "val", "test" that is there, with their labels.
        notes: what was left out, in words.
        doubts: pictures that were left out, in words.
    """

    root: Path
    train: Path
    classes: list[str]
    files: dict[str, list[tuple[Path, int]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def name(self, file: Path) -> str:
        """The path of a file relative to the folder."""
        return file.relative_to(self.root).as_posix()


def read_layout(root: Path) -> Layout:
    """Find the parts, classes and images of a folder.

    Legal are ``root/train/CLASS/`` with ``root/val/CLASS/`` and ``root/test/CLASS/`` where there are such parts (also
    named training, valid, validation, testing, in any case), and ``root/CLASS/``. Hidden files and folders, and files
    that are no images by their ending, are left out; the notes count them.

    Raises:
        DataError: there are no such folders, or a part has a class that the training images lack.
    """
    if not root.is_dir():
        raise DataError(f"there is no folder {shown(root)}; it must hold class folders, or train/CLASS/")
    folders = _parts(root)
    if not folders:
        folders = {"train": root}
    elif "train" not in folders:
        present = ", ".join(shown(Path(folder.name)) for folder in folders.values())
        raise DataError(f"{shown(root)} holds {present} but no train/; it must hold class folders, or train/CLASS/")
    layout = Layout(root, folders["train"], [folder.name for folder in _class_folders(folders["train"])])
    if not layout.classes:
        loose = sum(1 for file in folders["train"].iterdir() if file.suffix.lower() in IMG_EXTENSIONS)
        said = f" but {loose:,} images without one" if loose else ""
        raise DataError(f"{shown(folders['train'])} has no class folders{said}; legal is FOLDER/CLASS/IMAGE")
    left_out: Counter[str] = Counter()
    for part, folder in folders.items():
        layout.files[part] = _labelled(folder, layout.classes, left_out)
    others = set(_class_folders(root)) - set(folders.values()) if folders["train"] != root else set()
    layout.notes += [f"{shown(other)} is not read: it is neither train, val nor test" for other in sorted(others)]
    if listed := ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()) if count):
        layout.notes.append(f"left out of {shown(root)}: {listed}")
    for ending in _PICTURES:
        if count := left_out[_of_type(ending)]:
            layout.doubts.append(f"{count:,} files {ending} are not read; legal are {', '.join(IMG_EXTENSIONS)}")
    return layout


def _parts(root: Path) -> dict[str, Path]:
    """The folders named as parts, in the order train, val, test."""
    named = {folder.name.lower(): folder for folder in _class_folders(root)}
    found = {}
    for part, names in _PARTS.items():
        folders = [named[name] for name in names if name in named]
        if len(folders) > 1:
            both = f"{shown(Path(folders[0].name))} and {shown(Path(folders[1].name))}"
            raise DataError(f"{shown(root)} has two folders for the {part} part: {both}; keep one of them")
        if folders:
            found[part] = folders[0]
    return found


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not _hidden(entry.name))


def _hidden(name: str) -> bool:
    """Whether a name is of a hidden file or folder (``.ipynb_checkpoints``, ``._a.png``), or of a tool's own folder."""
    return name.startswith(".") or name in _NO_DATA


def _labelled(folder: Path, classes: list[str], left_out: Counter[str]) -> list[tuple[Path, int]]:
    numbers, found = {name: number for number, name in enumerate(classes)}, []
    for entry in sorted(folder.iterdir()):
        if _hidden(entry.name):
            left_out["hidden files or folders"] += 1
        elif not entry.is_dir():
            left_out["files outside of the class folders"] += 1
        elif entry.name in numbers:
            found += [(file, numbers[entry.name]) for file in _images(entry, left_out)]
        elif next(_images(entry, Counter()), None) is not None:
            raise DataError(f"{shown(folder)} has a class {shown(Path(entry.name))} without training images")
    return found


def _images(folder: Path, left_out: Counter[str]) -> Iterator[Path]:
    """Image files below a folder, in the order of their paths; every folder once, also where links lead back."""
    seen, below = set(), []
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        left_out["hidden files or folders"] += sum(map(_hidden, folders))
        folders[:] = [name for name in folders if not _hidden(name)]
        below.append((place, sorted(names)))
    for place, names in sorted(below):
        for name in names:
            ending = Path(name).suffix.lower()
            if _hidden(name):
                left_out["hidden files or folders"] += 1
            elif ending in IMG_EXTENSIONS:
                yield Path(place, name)
            else:
                left_out[_of_type(ending)] += 1


def _of_type(ending: str) -> str:
    return f"files {shown(Path(ending))}" if ending else "files without an ending"
