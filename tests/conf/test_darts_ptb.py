"""The recipe of DARTS on Penn Treebank: its numbers, and the whole of it on a few words."""

import json
import random
from pathlib import Path

from recipes import composed, run

SHORT = (
    *("search_space.width=8", "search_space.steps=2", "search_space.evaluation.width=10", "dataset.bptt=5"),
    *("dataset.batch_size=4", "dataset.eval_batch_size=2", "retrain.batch_size=4", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=3", "strategy.score_batches=1", "retrain.epochs=1", "retrain.optimizer.lr=1"),
    *("strategy.weights_optimizer.lr=1", "logger=none"),
)


def test_the_recipe_has_the_papers_numbers() -> None:
    config = composed("experiment=darts_ptb", "dataset.path=there")
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
    run(tmp_path, "experiment=darts_ptb", *SHORT, f"dataset.path={tmp_path}", "hydra.run.dir=run", fresh=True)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_ppl"] > 1
