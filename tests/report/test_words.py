"""Code names in plain words, figures with intervals, names of choices."""

import pytest
import torch
from scipy.stats import binomtest

from lightning_nas.architecture import Architecture
from lightning_nas.report.choices import Choices
from lightning_nas.report.quantities import accuracy, latency, provenance, wilson
from lightning_nas.report.words import glossary, meaning
from lightning_nas.spaces.base import SearchSpace, WeightSharingSpace
from lightning_nas.spaces.chains.fbnet import FBNetSpace
from lightning_nas.spaces.chains.mobile import MobileSpace
from lightning_nas.spaces.darts.space import DARTSSpace
from lightning_nas.spaces.eas.space import EASSpace
from lightning_nas.spaces.enas.macro import ENASMacroSpace
from lightning_nas.spaces.enas.micro import ENASMicroSpace
from lightning_nas.spaces.nasbench201.space import NASBench201Space
from lightning_nas.spaces.nasnet.space import NASNetSpace
from lightning_nas.spaces.recurrent.darts import DARTSRNNSpace

SHARING: dict[str, WeightSharingSpace] = {
    "fbnet": FBNetSpace(),
    "darts": DARTSSpace(),
    "enas_micro": ENASMicroSpace(),
    "enas_macro": ENASMacroSpace(),
    "nasbench201": NASBench201Space(),
    "darts_rnn": DARTSRNNSpace(),
}


def sample(space: SearchSpace) -> Architecture:
    return space.sample(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("space", [*SHARING.values(), MobileSpace(), NASNetSpace()], ids=lambda space: space.name)
def test_every_code_name_of_a_space_is_explained(space: SearchSpace) -> None:
    options = {option for decision in space.decisions for option in decision.options} - {"yes", "no"}
    assert {option for option, _ in glossary(options)} == options


@pytest.mark.parametrize("option", ["0.25", "64", "yes", "<b>", "k5_what", "what_3x3", "s0+what"])
def test_other_texts_are_not_explained(option: str) -> None:
    assert meaning(option) is None


@pytest.mark.parametrize(("successes", "trials"), [(0, 5), (5, 5), (35, 359), (9833, 10000)])
def test_wilson_is_scipys(successes: int, trials: int) -> None:
    known = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize("samples", [None, 0, "many", -3])
def test_accuracy_without_a_size_has_no_interval(samples: object) -> None:
    assert accuracy({"test_acc": 0.5, "test_samples": samples}) == "50.00%"


def test_a_latency_that_was_not_predicted_is_not_mentioned() -> None:
    assert latency({"latency_measured_ms": 9.527, "latency_predicted_ms": None}) == "9.527 ms measured"
    assert latency({"latency_measured_ms": None}) is None
    assert latency({"latency_predicted_ms": 1.5}) == "1.500 ms predicted"


def test_a_counted_table_has_no_conditions() -> None:
    assert provenance({"device": "any (counted)", "conditions": None}) == "any (counted)"


def test_choices_are_named_by_their_decisions() -> None:
    space = SHARING["fbnet"]
    assert Choices.of(space, sample(space)).names == {"layers": tuple(d.name for d in space.decisions)}


def test_choices_of_several_groups_have_their_own_decisions() -> None:
    space = SHARING["enas_macro"]
    names = Choices.of(space, sample(space)).names
    assert names["operations"][:2] == ("layer_1_op", "layer_2_op")
    assert names["skips"][:3] == ("layer_2_skip_0", "layer_3_skip_0", "layer_3_skip_1")


def test_edges_of_a_cell_are_named_as_in_its_drawing() -> None:
    space = SHARING["darts"]
    names = Choices.of(space, sample(space)).names["normal"]
    assert names[:4] == ("normal c_{k-2} → 0", "normal c_{k-1} → 0", "normal c_{k-2} → 1", "normal c_{k-1} → 1")
    assert names[-1] == "normal 2 → 3"


@pytest.mark.parametrize("name", SHARING)
def test_every_choice_has_a_name_of_its_own(name: str) -> None:
    space = SHARING[name]
    choices = Choices.of(space, sample(space))
    for group, (count, _) in space.gate_shapes.items():
        assert len(set(choices.named(group, count))) == count


def test_the_options_of_the_answer_are_those_of_its_gates() -> None:
    space = SHARING["fbnet"]
    answer = sample(space)
    taken = Choices.of(space, answer).taken["layers"]
    assert [space.gate_options["layers"][option] for (option,) in taken] == list(answer.options)


def test_a_space_without_a_supernet_has_no_choices() -> None:
    space = EASSpace()
    assert Choices.of(space, sample(space)) == Choices()


def test_the_answer_of_another_space_is_not_marked() -> None:
    space = SHARING["fbnet"]
    choices = Choices.of(space, Architecture.of("other", {"layer_01": "k3"}))
    assert choices.taken == {}
    assert choices.name("layers", 0) == "layers 1"


def test_numbered_layers_get_the_names_of_their_choices() -> None:
    choices = Choices({"layers": ("layer_01", "layer_02")})
    said = [choices.rename(text) for text in ("layers 2", "layers 9", "layers 0", "joint", "layers x", "")]
    assert said == ["layer_02", "layers 9", "layers 0", "joint", "layers x", ""]
