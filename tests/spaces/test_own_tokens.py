"""Modules of whole numbers and of several inputs: against the module itself, slices by hand, and transformers."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from helpers import token_modules as modules
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_nas.errors import InputError
from lightning_nas.latency.macs import count_macs, count_params, count_space
from lightning_nas.latency.measure import measure_space
from lightning_nas.latency.table import Conditions
from lightning_nas.spaces.own.inputs import arguments
from lightning_nas.spaces.own.space import FromModel
from lightning_nas.testing.spaces import SpaceCase

WORDS = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 9, 3, 2, 0, 0]])
SHOWN = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
NAMED = {"input_ids": WORDS, "attention_mask": SHOWN}
EXAMPLES: dict[str, tuple[type[nn.Module], Any]] = {
    "gpt": (modules.GPT, WORDS),
    "bert": (modules.BERT, WORDS),
    "bert, in a row": (modules.BERT, (WORDS, SHOWN)),
    "bert, by name": (modules.BERT, {**NAMED, "token_type_ids": SHOWN * 0}),
}


@functools.cache
def space_of(name: str) -> FromModel:
    kind, example = EXAMPLES[name]
    return FromModel(modules.made(kind), example)


def sizes(space: FromModel) -> dict[str, tuple[str, ...]]:
    return {decision.name: decision.options for decision in space.decisions}


def called(network: nn.Module, x: Any) -> Tensor:
    args, kwargs = arguments(x)
    out = network(*args, **kwargs)
    return out if isinstance(out, Tensor) else out["logits"]


def check(module: nn.Module, space: FromModel, draws: int) -> None:
    """The largest is the module, extracted networks are the active ones, and their sizes are as predicted."""
    supernet, x = space.supernet().eval(), space.example(3, torch.Generator().manual_seed(2))
    params, macs = count_space(space, "params"), count_space(space, "MACs")
    largest = space.extract(supernet, space.largest).eval()
    assert list(largest.state_dict()) == list(module.state_dict())
    assert repr(largest) == repr(module)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        expected = called(module, x)
        assert expected.isfinite().all()
        assert torch.equal(supernet(x, space.gates(space.largest)), expected)
        assert torch.equal(called(largest, x), expected)
        for architecture in [space.smallest, space.middle, *(space.sample(generator) for _ in range(draws))]:
            alone = space.extract(supernet, architecture).eval()
            assert torch.equal(supernet(x, space.gates(architecture)), called(alone, x))
            assert space.cost(architecture, params) == count_params(alone)
            assert space.cost(architecture, macs) == count_macs(*space.subject(alone))


class TestGPT(SpaceCase):
    @pytest.fixture
    def space(self) -> FromModel:
        return space_of("gpt")


@pytest.mark.parametrize("name", EXAMPLES)
def test_token_models_are_cut_exactly(name: str) -> None:
    check(modules.made(EXAMPLES[name][0]), space_of(name), 20 if "by name" in name or name == "gpt" else 3)


def test_what_is_searched_in_a_language_model() -> None:
    space = space_of("gpt")
    assert (space.input_shape, space.input_dtype, space.num_classes) == ((6,), torch.int64, modules.WORDS)
    block = {"depth": ("skip", "keep"), "attn.c_attn.heads": ("2", "3", "4"), "c_fc.width": ("24", "32", "48")}
    blocks = {f"h.{number}.{name}": options for number in (0, 1) for name, options in block.items()}
    assert sizes(space) == blocks | {"h.0.attn.c_proj.width": ("16", "24", "32")}
    assert [what for what, _ in space.fixed] == ["wte: 20 channels"]
    space = space_of("bert, by name")
    assert space.num_classes == 3
    assert {name.rpartition(".")[2] for name in sizes(space)} == {"depth", "heads", "width"}
    assert [what for what, _ in space.fixed] == ["classifier: 3 channels"]


def test_slices_of_a_language_model_by_hand() -> None:
    module, space = modules.made(modules.GPT), space_of("gpt")
    chosen = {name: options[-1] for name, options in sizes(space).items()} | {"h.1.depth": "skip"}
    chosen |= {"h.0.attn.c_attn.heads": "3", "h.0.c_fc.width": "32", "h.0.attn.c_proj.width": "24"}
    network = space.extract(space.supernet(), space.validate(chosen)).eval()
    assert network.lm_head.weight is network.wte.weight
    first = network.h[0]
    assert (first.attn.split_size, first.attn.head_dim, first.c_fc.nf, first.c_fc.nx) == (24, 8, 32, 24)
    assert (network.wte.embedding_dim, network.wte.num_embeddings) == (24, 20)
    w = module.state_dict()

    def norm(y: Tensor, name: str) -> Tensor:
        return F.layer_norm(y, (24,), w[f"{name}.weight"][:24], w[f"{name}.bias"][:24])

    x = F.embedding(WORDS, w["wte.weight"][:, :24]) + w["wpe.weight"][:, :24]
    columns = w["h.0.attn.c_attn.weight"].view(32, 3, 4, 8)[:24, :, :3].flatten(1)
    qkv = norm(x, "h.0.ln_1") @ columns + w["h.0.attn.c_attn.bias"].view(3, 4, 8)[:, :3].flatten()
    q, k, v = (part.view(2, 6, 3, 8).transpose(1, 2) for part in qkv.chunk(3, -1))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    x = x + y @ w["h.0.attn.c_proj.weight"][:24, :24] + w["h.0.attn.c_proj.bias"][:24]
    y = F.gelu(norm(x, "h.0.ln_2") @ w["h.0.c_fc.weight"][:24, :32] + w["h.0.c_fc.bias"][:32])
    x = x + y @ w["h.0.c_proj.weight"][:32, :24] + w["h.0.c_proj.bias"][:24]
    torch.testing.assert_close(network(WORDS), norm(x, "ln_f") @ w["wte.weight"][:, :24].T)


def test_random_inputs_are_words_of_each_table_and_rows_of_the_example() -> None:
    x = space_of("bert, by name").example(200, torch.Generator().manual_seed(0))
    assert set(x["input_ids"].flatten().tolist()) == set(range(modules.WORDS))
    assert set(x["token_type_ids"].flatten().tolist()) == {0, 1}
    assert sorted(map(list, {tuple(row) for row in x["attention_mask"].tolist()}), reverse=True) == SHOWN.tolist()


def test_several_inputs_are_explained_and_measured() -> None:
    space = space_of("bert, in a row")
    networks = [space.network(a) for a in (space.smallest, space.middle, space.largest)]
    explained = space.explain(lambda network: float(count_params(network)))
    assert explained.parameters == tuple(count_params(network) for network in networks) == explained.milliseconds
    table = measure_space(space, Conditions(min_run_time=1e-5), networks=1, progress=False)
    assert space.cost(space.largest, table) > 0


def test_another_vocabulary_keeps_the_weights_tied() -> None:
    space = FromModel(modules.made(modules.GPT), WORDS, num_classes=30)
    network = space.extract(space.supernet(), space.largest)
    assert network.lm_head.weight is network.wte.weight
    assert network(WORDS).shape == (2, 6, 30)


@pytest.mark.parametrize(
    "example",
    [
        WORDS[0],
        [],
        {"input_ids": [1, 2]},
        {0: WORDS},
        (WORDS, SHOWN[:1]),
        (WORDS, torch.tensor(1)),
        torch.zeros(0, 6, dtype=torch.int64),
        "words",
    ],
)
def test_an_example_that_is_none_is_one_clear_line(example: Any) -> None:
    with pytest.raises(InputError, match=r"example: got .* legal: a tensor") as caught:
        FromModel(modules.made(modules.GPT), example)
    assert "\n" not in str(caught.value)


def test_an_input_that_the_module_does_not_take_is_named() -> None:
    with pytest.raises(InputError, match="unexpected keyword argument 'wrods'"):
        FromModel(modules.made(modules.GPT), {"wrods": WORDS})


@pytest.mark.parametrize("name", ["gpt2", "bert", "llama"])
def test_transformers_models_are_cut_exactly(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes_of = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    sizes_of |= {"vocab_size": 20, "max_position_embeddings": 8}
    example: Any = WORDS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "gpt2":
            config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=20, n_positions=8,
                                             bos_token_id=1, eos_token_id=2)  # fmt: skip
            module = transformers.GPT2LMHeadModel(config).eval()
        elif name == "llama":
            config = transformers.LlamaConfig(**sizes_of, num_key_value_heads=2)
            module = transformers.LlamaForCausalLM(config).eval()
        else:
            module = transformers.BertForSequenceClassification(transformers.BertConfig(**sizes_of)).eval()
            example = NAMED
    space = FromModel(module, example)
    assert {name.rpartition(".")[2] for name in sizes(space)} == {"depth", "heads", "width"}
    assert len(space.fixed) == 1
    check(module, space, 4)
