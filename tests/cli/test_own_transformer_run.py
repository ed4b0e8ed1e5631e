"""A causal transformer of one's own searched by the command on text."""

import sys
from pathlib import Path

import pytest
import torch
from commands import Commands
from helpers import own_gpt

import lightning_nas as ln
from lightning_nas.cli.main import main


def test_the_command_searches_a_transformer_of_ones_own(cli: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.folder / "mygpt.py").write_text(Path(own_gpt.__file__).read_text())

    def importable() -> None:
        sys.path.insert(0, str(cli.folder))

    model = 'search_space.model={_target_: mygpt.GPT, _partial_: true, width: 16, words: "${dataset.num_classes}"}'
    text = ("search_space=from_model", "dataset=text", "dataset.max_words=100", "dataset.bptt=12")
    base = (*text, "trusted_modules=[mygpt]", "strategy=random_ws", "logger=none", "callbacks=record")
    short = ("trainer.max_epochs=1", "+trainer.limit_train_batches=2", "strategy.candidates=2", "retrain.epochs=1")
    folder = cli.folder / "run"
    fixed = model.replace('"${dataset.num_classes}"', "30")
    refused = cli.run(*base, *short, fixed, before=importable)
    refused.refused("its embedding has 30 rows", "the text has 100 different words", "search_space.model.ARGUMENT=")
    cli.run(*base, *short, before=importable).refused("the module does not run on an example of shape (12,)")
    ended = cli.run(*base, *short, model, "retrain=transformer", f"hydra.run.dir={folder}", before=importable)
    assert ended.code == 0, ended.err[-2000:]
    monkeypatch.syspath_prepend(cli.folder)
    network = ln.load(folder, trusted_modules=["mygpt"])
    assert network(torch.zeros(2, 5, dtype=torch.int64)).shape == (2, 5, 100)
    assert main(["evaluate", str(folder), "trusted_modules=[mygpt]"]) == 0
