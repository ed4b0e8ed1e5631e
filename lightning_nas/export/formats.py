"""The formats of an export: for each, a function that writes the network's file and reads it back."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_nas.errors import NumericalError, shown
from lightning_nas.export.card import model_card
from lightning_nas.export.source import network_file
from lightning_nas.export.trained import Trained
from lightning_nas.files import replace_file
from lightning_nas.onnx_model import onnx_model, without_remarks
from lightning_nas.ops.outputs import Logits, logits_of
from lightning_nas.training.seeding import generator


@dataclass(frozen=True, eq=False)
class Source:
    """A network that is exported.

    Attributes:
        trained: the network.
        folder: of the files.
        x: inputs of the comparison, (3, ...); a file must also take the first of them alone.
        result: the content of the run's ``result.json``, for the model card.
    """

    trained: Trained
    folder: Path
    x: Tensor
    result: Mapping[str, Any]

    @cached_property
    def returns_more(self) -> bool:
        """Whether the network returns its logits in a mapping, with other things."""
        return isinstance(self.trained.network(self.x[:1]), Mapping)

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The program of torch.export, for any size of the batch."""
        batch = torch.export.Dim("batch", min=1)
        network = Logits(self.trained.network) if self.returns_more else self.trained.network
        return torch.export.export(network, (self.x[:2],), dynamic_shapes=({0: batch},), strict=False)


@dataclass(frozen=True)
class Exported:
    """One file, and the network that was read back from it.

    Attributes:
        run: the file's network, from an input to its output; None where it cannot be run here.
        limit: largest difference of an output, as a share of the largest output and at least of 1.
        milliseconds: of one input, where it was measured in another process.
        said: further entries of ``export.json``.
    """

    run: Callable[[Tensor], Tensor] | None
    limit: float
    milliseconds: float | None = None
    said: dict[str, Any] = field(default_factory=dict)


def inputs(trained: Trained) -> Tensor:
    """Three inputs that files are compared on: normal numbers, or words."""
    known, rng = trained.preprocessing, generator(0, "export")
    shape = (3, *known.input_shape)
    if len(known.input_shape) == 1:
        return torch.randint(len(known.classes), shape, generator=rng)
    return torch.randn(shape, generator=rng)


def write(name: str, source: Source) -> Exported:
    """Write a network in one format, and read it back."""
    return _MAKERS[name](source)


def _torch(source: Source) -> Exported:
    buffer = io.BytesIO()
    about = {"preprocessing.json": source.trained.preprocessing.model_dump_json()}
    torch.export.save(source.program, buffer, extra_files=about)
    file = source.folder / "network.pt2"
    replace_file(file, buffer.getbuffer())
    read: Any = torch.export.load(file).module()
    return Exported(read, 1e-6)


def _onnx(source: Source) -> Exported:
    import onnxruntime

    model = onnx_model(source.program)
    entry = model.metadata_props.add()
    entry.key, entry.value = "preprocessing", source.trained.preprocessing.model_dump_json()
    file = source.folder / "network.onnx"
    replace_file(file, model.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(batch: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"input": batch.numpy()})[0])

    return Exported(run, 1e-5, said={"opset": model.opset_import[0].version, "onnxruntime": version("onnxruntime")})


def _py(source: Source) -> Exported:
    buffer = io.BytesIO()
    torch.save(dict(_tensors(source.trained)), buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    replace_file(source.folder / "network.weights.pt", buffer.getbuffer())
    text = network_file(source.trained, source.x, "network.weights.pt", digest)
    replace_file(source.folder / "network.py", text.encode())
    outputs, milliseconds = _in_a_fresh_process(source.folder / "network.py", source.x)
    return Exported(lambda batch: outputs[len(batch)], 0.0, milliseconds)


_FRESH = """\
import importlib.util, sys, time, torch
sys.modules["lightning_nas"] = None  # whoever imports it fails
file, given, taken, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
spec = importlib.util.spec_from_file_location("network", file)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network, x, times = module.load(), torch.load(given, weights_only=True), []
with torch.no_grad():
    outputs = {len(batch): network(batch) for batch in (x, x[:1])}
    while len(times) < 3 or len(times) < 20 and sum(times) < 1000:
        began = time.perf_counter()
        network(x[:1])
        times.append(1e3 * (time.perf_counter() - began))
torch.save({"outputs": outputs, "milliseconds": sorted(times)[len(times) // 2]}, taken)
"""


def _in_a_fresh_process(file: Path, x: Tensor) -> tuple[dict[int, Tensor], float]:
    """The outputs of a Python file's network, by the size of the batch; the process cannot import lightning_nas."""
    with tempfile.TemporaryDirectory() as place:
        given, taken = Path(place, "x.pt"), Path(place, "y.pt")
        torch.save(x, given)
        command = [sys.executable, "-I", "-B", "-c", _FRESH, str(file.resolve()), str(given), str(taken)]
        ended = subprocess.run(  # noqa: S603 - our own script on our own file
            [*command, str(torch.get_num_threads())], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise NumericalError(f"{shown(file)} does not run by itself: {shown(last, 200)}")
        found = torch.load(taken, weights_only=True)
    return found["outputs"], round(found["milliseconds"], 4)


def _safetensors(source: Source) -> Exported:
    from safetensors.torch import load_file, save

    trained = source.trained
    about = {"preprocessing": trained.preprocessing.model_dump_json(), "figures": json.dumps(trained.figures)}
    file = source.folder / "model.safetensors"
    replace_file(file, save(dict(_tensors(trained)), about))
    trained.architecture.save(source.folder / "config.json", trained.sizes)
    replace_file(source.folder / "README.md", model_card(trained, source.result).encode())
    read = {name: value.clone() for name, value in load_file(file).items()}  # aligned, as in a network
    for name, parameter in trained.network.named_parameters(remove_duplicate=False):
        read[name].requires_grad_(parameter.requires_grad)  # torch takes other kernels for weights without

    kept = trained.network.state_dict().keys()
    read |= {name: buffer for name, buffer in trained.network.named_buffers() if name not in kept}  # in no file

    def run(batch: Tensor) -> Tensor:
        logits: Tensor = logits_of(torch.func.functional_call(trained.network, read, batch, strict=True))
        return logits

    return Exported(run, 0.0, said={"config": "config.json", "card": "README.md"})


def _executorch(source: Source) -> Exported:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.runtime import Runtime

    with without_remarks():  # its memory is planned for one size of the batch
        program = torch.export.export(source.trained.network, (source.x[:1],), strict=False)
        forget_layouts(program)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        content = lowered.to_executorch().buffer
    file = source.folder / "network.pte"
    replace_file(file, content)
    method = Runtime.get().load_program(file).load_method("forward")

    def run(batch: Tensor) -> Tensor:
        return torch.cat([method.execute([one.clone()])[0].clone() for one in batch.unsqueeze(1)])

    return Exported(run, 1e-5, said={"batch": 1, "backend": "xnnpack", "executorch": version("executorch")})


def forget_layouts(program: torch.export.ExportedProgram) -> None:
    """Leave out the steps of a program that only order its tensors by channels last.

    Kernels of ExecuTorch that XNNPACK does not replace, such as batch norm, take channels first alone.
    """
    for node in list(program.graph.nodes):
        if node.kwargs.get("memory_format") is torch.channels_last:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _tensors(trained: Trained) -> Iterator[tuple[str, Tensor]]:
    """Names and copies of the weights: no two share their memory."""
    for name, value in trained.network.state_dict().items():
        yield name, value.detach().clone().contiguous()


_MAKERS: dict[str, Callable[[Source], Exported]] = {
    "torch": _torch,
    "onnx": _onnx,
    "py": _py,
    "safetensors": _safetensors,
    "executorch": _executorch,
}
