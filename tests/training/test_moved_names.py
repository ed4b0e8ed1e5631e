"""Checkpoints made before classes moved."""

from lightning_nas.training.exact import differences

OLD = {"strategy._target_": '"lightning_nas.strategies.differentiable.darts.Darts"', "seed": "0"}
NOW = {"strategy._target_": '"lightning_nas.strategies.differentiable.darts.DARTS"', "seed": "0"}


def test_a_class_that_has_moved_is_the_same_condition() -> None:
    assert differences(OLD, NOW) == ""
    assert differences(OLD, {**NOW, "seed": "1"}) == "seed was 0, is 1"
    assert len(differences({"a": "x\n" * 500}, {"a": "b"})) < 130


def test_another_class_is_another_condition() -> None:
    other = {**NOW, "strategy._target_": '"lightning_nas.strategies.differentiable.gdas.GDAS"'}
    assert "strategy._target_" in differences(OLD, other)
