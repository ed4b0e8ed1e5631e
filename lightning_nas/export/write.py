"""A trained network in files that need no lightning_nas: each is read back and compared with the network."""

from __future__ import annotations

import hashlib
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from lightning_nas.errors import CheckpointError, InputError, NasError, NumericalError, shown
from lightning_nas.export.formats import Exported, Source, inputs, write
from lightning_nas.export.names import FILES, USUAL, check_formats, missing
from lightning_nas.export.trained import Trained
from lightning_nas.files import read_json, write_json
from lightning_nas.latency.torch_device import device_description
from lightning_nas.ops.outputs import output_of
from lightning_nas.spaces.base import SearchSpace

_RECORD = "export.json"
_RUNS, _SECONDS = 20, 1.0
_NUMBERS = ("bytes", "difference", "latency_ms")


def export_network(
    folder: str | Path,
    formats: Sequence[str] | None = None,
    out: str | Path | None = None,
    space: SearchSpace | None = None,
    *,
    trusted_modules: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the trained network of a run in several formats, with its preprocessing and the names of its classes.

    Each file is read back and compared with the network, for a batch and for one input: ``py`` in a process that cannot
    import lightning_nas, bit for bit; ``torch`` may differ by 1e-6, ``onnx`` and ``executorch`` by 1e-5.

    Args:
        folder: of a run that was retrained, or its file ``retrain/network.pt``.
        formats: of "torch" (``network.pt2``), "onnx" (``network.onnx``), "py" (``network.py``), "safetensors"
            (``model.safetensors``, with a model card) and "executorch" (``network.pte``); None for all but the last
            whose packages are installed and that can hold the network.
        out: folder of the files; None for ``export`` in the run's folder.
        space: of the network, where it is a search space of your own, as in :func:`~lightning_nas.export.trained.load`.
        trusted_modules: modules with code of your own that built the network, likewise.

    Returns:
        The content of ``export.json``: of each file its size in bytes, its SHA-256, the largest difference of an
        output to the network's, and the milliseconds of one input; and what was skipped, with the reason.

    Raises:
        ConfigError: a format that there is not, or that needs a package.
        CheckpointError: there is no trained network, or its file is damaged or foreign; nothing in it is executed.
        InputError: a format that was asked for cannot hold this network.
        NumericalError: a file computes something else than the network; it is removed.

    Example:
        >>> export_network("outputs/nothing", formats=["py"])
        Traceback (most recent call last):
        lightning_nas.errors.CheckpointError: there is no folder 'outputs/nothing'
    """
    check_formats(formats if formats is not None else USUAL[:1])
    path = Path(folder).expanduser()
    trained = Trained.load(path, space, trusted_modules=trusted_modules)
    file = path / "result.json"
    result = read_json(file, error=CheckpointError) if file.is_file() else {}
    same = isinstance(result, dict) and result.get("architecture") == trained.architecture.to_dict()
    return export_trained(trained, folder_of(path, out), formats, result if same else {})


def folder_of(run: str | Path, out: str | Path | None = None) -> Path:
    """Where the exports of a run are: ``out``, or ``export`` in its folder.

    >>> str(folder_of("outputs/mine"))
    'outputs/mine/export'
    """
    path = Path(run).expanduser()
    return Path(out or (path.parent if path.is_file() else path) / "export").expanduser()


def export_trained(
    trained: Trained,
    folder: Path,
    formats: Sequence[str] | None = None,
    result: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write a network that is in memory; ``result`` is for the model card. All else as :func:`export_network`."""
    check_formats(formats if formats is not None else USUAL[:1])
    wanted = list(dict.fromkeys(USUAL if formats is None else formats))
    skipped = {name: problem for name in wanted if (problem := missing(name))}
    folder.mkdir(parents=True, exist_ok=True)
    digest = _digest(trained)
    files = _earlier(folder, digest)
    (folder / _RECORD).unlink(missing_ok=True)  # until the new one is whole
    x = inputs(trained)
    with torch.no_grad():
        source = Source(trained, folder, x, result)
        outputs = [(batch, output_of(trained.network, batch)) for batch in (x, x[:1])]
        for name in wanted:
            if name in skipped:
                continue
            try:
                files[FILES[name][0]] = _written(name, source, outputs)
            except InputError as reason:
                if formats is not None:
                    raise
                skipped[name] = str(reason)
        latency = milliseconds(lambda: trained.network(x[:1]))
    content = {
        "format": 1,
        "architecture": trained.architecture.to_dict(),
        "weights": digest,
        "input": {"shape": ["batch", *x.shape[1:]], "type": str(x.dtype).removeprefix("torch.")},
        "preprocessing": trained.preprocessing.model_dump(mode="json"),
        "figures": trained.figures,
        "device": f"{device_description('cpu')}, {torch.get_num_threads()} thread(s)",
        "torch": str(torch.__version__),
        "latency_ms": latency,
        "files": files,
        "skipped": skipped,
    }
    write_json(folder / _RECORD, content)
    return content


def milliseconds(call: Callable[[], Any]) -> float:
    """The median duration of a call, of up to 20 within a second."""
    times = list[float]()
    while len(times) < 3 or (len(times) < _RUNS and sum(times) < _SECONDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(times), 4)


def _written(name: str, source: Source, outputs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """Write a file, compare it, and return its entry; a file that is wrong or cannot be read back is removed."""
    try:
        made = write(name, source)
        return {"format": name, **_compared(made, name, source.folder, outputs), **made.said}
    except Exception as reason:  # other packages raise any error at a network that they cannot write or run
        for file in FILES[name]:
            (source.folder / file).unlink(missing_ok=True)
        if isinstance(reason, (NasError, OSError, MemoryError)):
            raise
        said = next(iter(str(reason).strip().splitlines()), type(reason).__name__)
        raise InputError(
            f"{name}: the network cannot be written in this format: {shown(said, 200)}; leave it out of formats=[...]"
        ) from reason


def _compared(made: Exported, name: str, folder: Path, outputs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The entries of a file, after its outputs were held against the network's."""
    file = folder / FILES[name][0]
    said: dict[str, Any] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
    if others := FILES[name][1:]:
        said["beside"] = {other: _sha256(folder / other) for other in others}
    if made.run is None:
        return said
    said["difference"] = max(_difference(made.run(batch), wanted) for batch, wanted in outputs)
    if not said["difference"] <= made.limit:
        raise NumericalError(
            f"{shown(file)} differs from the trained network by {said['difference']:.3g} of the largest output; "
            f"at most {made.limit:g} is right. The file was removed"
        )
    run, one = made.run, outputs[-1][0]
    said["latency_ms"] = milliseconds(lambda: run(one)) if made.milliseconds is None else made.milliseconds
    return said


def _difference(output: Tensor, wanted: Tensor) -> float:
    """The largest difference, as a share of the largest output and at least of 1; infinite for another shape or NaN."""
    if output.shape != wanted.shape:
        return math.inf
    found = float((output - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    return math.inf if math.isnan(found) else found


def _earlier(folder: Path, digest: str) -> dict[str, Any]:
    """Entries of files that were exported before from the same weights and are as they were."""
    try:
        content = read_json(folder / _RECORD)
        files = dict(content["files"]) if content["weights"] == digest else {}
    except (InputError, KeyError, TypeError, ValueError):
        return {}
    firsts = {name: names[0] for name, names in FILES.items() if names[0] in files}
    return {first: files[first] for name, first in firsts.items() if _is_as_it_was(folder, name, files[first])}


def _is_as_it_was(folder: Path, name: str, said: Any) -> bool:
    """Whether an entry is one of the format, and its file and those beside it are the ones it was written for."""
    first, *others = FILES[name]
    try:
        right = said["format"] == name and all(type(said[key]) in (int, float) for key in _NUMBERS)
        known = {first: said["sha256"], **{other: said["beside"][other] for other in others}}
        return right and all(_sha256(folder / file) == digest for file, digest in known.items())
    except (OSError, KeyError, TypeError):
        return False


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digest(trained: Trained) -> str:
    """SHA-256 of names, shapes and weights."""
    found = hashlib.sha256()
    for name, value in trained.network.state_dict().items():
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
