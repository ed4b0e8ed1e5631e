"""A small but whole configuration, and a stranger's package that leaves a mark when it is imported."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

TEXT = """
seed: 0
threads: 1
stages: [search, retrain]
ranking: null
engine: null
child: null
architecture: null
target: null
target_ms: null
target_macs: null
target_params: null
ckpt_path: null
export: {formats: null}
trusted_modules: []
search_space:
  _target_: lightning_nas.spaces.chains.fbnet.FBNetSpace
  image_size: ${dataset.image_size}
strategy:
  _target_: lightning_nas.strategies.differentiable.base.DifferentiableSearch
  _partial_: true
  weights_clip: null
  weights_optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.1, momentum: 0.9}
  arch_optimizer: {_target_: torch.optim.Adam, _partial_: true, lr: 3.0e-3, betas: [0.5, 0.999]}
  weights_scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true, T_max: 10}
dataset: {_target_: lightning_nas.data.images.Digits, image_size: 8}
latency_table: {_target_: torchmetrics.Accuracy, task: binary}
task: {_target_: lightning_nas.tasks.classification.Classification, label_smoothing: 0.1}
trainer: {_target_: pytorch_lightning.Trainer, max_epochs: 3, precision: bf16-mixed, gradient_clip_val: null}
retrain:
  epochs: 3
  batch_size: null
  clip: 5
  auxiliary_weight: 0
  drop_path: 0.0
  drop_path_interval: epoch
  label_smoothing: null
  cutout: 0
  average_after: null
  optimizer: {_target_: torch.optim.SGD, _partial_: true, lr: 0.1}
  scheduler: null
callbacks:
  stop: {_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/acc}
  none: null
logger: {wandb: {_target_: pytorch_lightning.loggers.WandbLogger, offline: true}}
paths: {data: here}
resume: {allow_inexact: false, save_every: 10, keep: 2}
"""


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """Makes the configuration with changes as on a command line: ``key=value``, the value in YAML."""

    def compose(*changes: str) -> DictConfig:
        config = OmegaConf.create(TEXT)
        for change in changes:
            key, _, text = change.partition("=")
            value = yaml.safe_load(text)
            into = OmegaConf.select(config, key, throw_on_missing=False)
            OmegaConf.update(config, key, value, merge=isinstance(value, dict) and isinstance(into, DictConfig))
        return config

    return compose


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package ``stranger`` on the path, and a module ``stranger2``; importing one makes the file returned."""
    canary = tmp_path / "canary"
    package = tmp_path / "stranger"
    package.mkdir()
    mark = f"import os\nfrom pathlib import Path\nPath({str(canary)!r}).touch()\nrun = os.system\n"
    (package / "__init__.py").write_text(mark + "from torch import load\nfrom stranger._nets import Net as Net\n")
    (package / "_nets.py").write_text(
        "class Base:\n    def __init__(self, width: int, *, deep: bool = False): ...\n"
        "class Net(Base):\n    def __init__(self, rate: float = 0.1, **kwargs): super().__init__(**kwargs)\n"
        "def build(depth: int): ...\n"
    )
    (tmp_path / "stranger2.py").write_text(mark + "class Net: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield canary
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]
