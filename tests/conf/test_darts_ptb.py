"""The recipe of DARTS on Penn Treebank: its numbers, and the whole of it on a few words."""

import json
import random
import subprocess
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from lightning_nas.command import conf_dir
from lightning_nas.config.check import check

SHORT = (
    *("search_space.width=8", "search_space.steps=2", "search_space.evaluation.width=10", "dataset.bptt=5"),
    *("dataset.batch_size=4", "dataset.eval_batch_size=2", "retrain.batch_size=4", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=3", "strategy.score_batches=1", "retrain.epochs=1", "retrain.optimizer.lr=1"),
    *("strategy.weights_optimizer.lr=1", "logger=none"),
)


def test_the_recipe_has_the_papers_numbers() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=conf_dir()):
        config = compose("config", ["experiment=darts_ptb", "paths.output=here", "dataset.path=there"])
    check(config)
    space, data, strategy = config.search_space, config.dataset, config.strategy
    assert (space.steps, space.width, space.evaluation.width) == (8, 300, 850)
    drops = (space.drop_words, space.drop_input, space.drop_hidden, space.drop_x, space.drop_output)
    assert drops == (0, 0.2, 0.25, 0.75, 0.75)
    assert (data.batch_size, data.bptt, config.trainer.max_epochs) == (256, 35, 50)
    weights, arch = strategy.weights_optimizer, strategy.arch_optimizer
    assert (weights.lr, weights.weight_decay, strategy.weights_clip) == (20, 5e-7, 0.25)
    assert (arch.lr, arch.weight_decay, strategy.order) == (3e-3, 1e-3, "second")
    retrain = config.retrain
    assert (retrain.batch_size, retrain.optimizer.lr, retrain.optimizer.weight_decay) == (64, 20, 8e-7)
    assert (retrain.clip, retrain.average_after, config.task.slowness) == (0.25, 5, 1e-3)


def test_the_whole_of_the_recipe_runs(tmp_path: Path) -> None:
    words, draw = [f"w{i}" for i in range(12)], random.Random(0)
    for part, lines in (("train", 60), ("valid", 12), ("test", 12)):
        text = "\n".join(" ".join(draw.choices(words, k=8)) for _ in range(lines))
        (tmp_path / f"ptb.{part}.txt").write_text(text)
    folders = f"dataset.path={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"
    done = subprocess.run(
        [sys.executable, "-m", "lightning_nas.run", "experiment=darts_ptb", *SHORT, *folders],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(conf_dir()).parent), "PATH": "/usr/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_ppl"] > 1
