"""Language models without a recurrent cell, searched on text by methods of every family."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.own_gpt import GPT
from torch import Tensor, nn
from torch.nn import functional as F

import lightning_nas as ln
from lightning_nas.latency.macs import count_macs

WORDS, T = 100, 12
SHORT = {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1}
QUIET = {"callbacks": "none", "logger": "none", "latency_table": "macs", "trainer": SHORT}


def gpt(words: int = WORDS) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT(words)


class Mapped(nn.Module):
    """A network that returns its logits in a mapping, as those of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = gpt()

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        return {"cache": input_ids, "logits": self.transformer(input_ids)}


def data() -> ln.TextData:
    return ln.TextData(max_words=WORDS, bptt=T, batch_size=16)


def space(network: nn.Module | None = None) -> ln.FromModel:
    return ln.FromModel(network or gpt(), torch.zeros(1, T, dtype=torch.int64))


@pytest.mark.parametrize(
    "strategy",
    [
        partial(ln.SPOS, sampling="sandwich", generations=1, population=4, parents=2, score_batches=1),
        partial(ln.ENAS, candidates=2, score_batches=1, arch_warmup_epochs=0),
        partial(ln.FBNet, arch_warmup_epochs=0),
        partial(ln.DARTS, arch_warmup_epochs=0),
        partial(ln.RegularizedEvolution, trials=3, population=2, sample=2),
    ],
    ids=lambda strategy: strategy.func.__name__,
)
def test_a_search_of_a_transformer_keeps_its_target(strategy: Any, tmp_path: Path) -> None:
    made = space()
    least, most = (count_macs(made.network(a), (T,), torch.int64) for a in (made.smallest, made.largest))
    more: dict[str, object] = {}
    if issubclass(strategy.func, ln.TrialSearch):
        more = {"engine": "serial", "child": {"epochs": 1, "limit_train_batches": 2}}
    run = ln.Run(tmp_path, data=data(), space=made, strategy=strategy, **QUIET, **more, target_macs=(least + most) / 2)
    assert count_macs(made.network(run.search()), (T,), torch.int64) <= (least + most) / 2


def test_a_network_that_returns_a_mapping_goes_from_search_to_export(tmp_path: Path) -> None:
    strategy = partial(ln.SPOS, sampling="sandwich", generations=1, population=4, parents=2, score_batches=1)
    settings = {"retrain": "transformer", "stages": ["search", "retrain", "export"]}
    made, text = space(Mapped()), data()
    run = ln.Run(tmp_path, data=text, space=made, strategy=strategy, **QUIET, **settings)
    run.search()
    network = run.retrain().eval()
    run.report()
    total, count = 0.0, 0
    with torch.no_grad():  # windows in order, by hand; no window knows of the one before
        for x, y in text.test_dataloader():
            total += float(F.cross_entropy(network(x)["logits"].flatten(0, 1), y.flatten(), reduction="sum"))
            count += y.numel()
    assert run.result["test_ppl"] == pytest.approx(math.exp(total / count), rel=1e-4)
    files = run.export(["torch", "onnx", "safetensors"])["files"]
    bars = {"network.pt2": 1e-6, "network.onnx": 1e-5, "model.safetensors": 0}
    assert {name: said["difference"] <= bars[name] for name, said in files.items()} == dict.fromkeys(bars, True)
    x = torch.randint(WORDS, (3, T))
    assert torch.equal(ln.load(tmp_path, space=made)(x)["logits"], network(x)["logits"])


def test_networks_of_other_words_are_refused(tmp_path: Path) -> None:
    last = nn.Sequential(nn.Embedding(WORDS, 16), nn.Flatten(), nn.Linear(16 * T, 16), nn.Linear(16, WORDS))
    for network, said in ((gpt(words=50), "50"), (last, r"logits \(16, 100\) for words \(16, 12\)")):
        with pytest.raises(ln.NasError, match=said):
            ln.Run(tmp_path, data=data(), space=space(network), strategy="random_ws", **QUIET).search()


def test_gpt2_of_hugging_face_is_searched_on_text(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16, "vocab_size": WORDS}
    config = transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2)
    made = space(transformers.GPT2LMHeadModel(config))
    strategy = partial(ln.SPOS, sampling="sandwich", generations=1, population=4, parents=2, score_batches=1)
    run = ln.Run(tmp_path, data=data(), space=made, strategy=strategy, **QUIET, retrain={"epochs": 1})
    run.search()
    network = run.retrain()
    run.report()
    assert isinstance(network, transformers.GPT2LMHeadModel)
    assert 1 < run.result["test_ppl"] < WORDS
