"""Conformance tests of probabilities, samples, scores and answers of a strategy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_nas.architecture import Architecture
from lightning_nas.data.base import SearchData
from lightning_nas.testing.searching import Make, SearchCase
from lightning_nas.testing.training import digest, fit
from lightning_nas.training.seeding import seeded


class AnsweringCase(SearchCase):
    """Tests of the architectures that a strategy samples, scores and answers with."""

    def test_probabilities_are_distributions(self, make: Make) -> None:
        module = make()
        for group, rows in module.probabilities().items():
            assert tuple(rows.shape) == module.space.gate_shapes[group]
            assert not rows.requires_grad
            torch.testing.assert_close(rows.sum(-1), torch.ones(len(rows)))

    def test_samples_are_legal_and_a_function_of_the_generator(self, make: Make) -> None:
        module = make()
        for seed in range(5):
            first, second = (module.sample(torch.Generator().manual_seed(seed)) for _ in range(2))
            assert first == second == module.space.validate(first)

    def test_samples_follow_the_probabilities(self, make: Make) -> None:
        module, draws = make(), 600
        with seeded(0, "perturbed"), torch.no_grad():
            for parameter in module.arch_parameters():
                parameter.add_(torch.randn_like(parameter))
        generator = torch.Generator().manual_seed(0)
        drawn = [module.space.gates(module.sample(generator)).values for _ in range(draws)]
        for group, expected in module.probabilities().items():
            frequencies = torch.stack([values[group] for values in drawn]).mean(0)
            torch.testing.assert_close(frequencies, expected, rtol=0, atol=4 * (0.25 / draws) ** 0.5)

    def test_the_answer_builds_trains_and_survives_a_round_trip(
        self, make: Make, data: SearchData, tmp_path: Path
    ) -> None:
        module = make()
        fit(module, data, tmp_path, epochs=1, every=1000)
        answer = module.answer()
        assert Architecture.from_json(answer.to_json()) == answer
        logits = module.space.network(answer)(torch.randn(4, *module.space.input_shape))
        logits.sum().backward()
        assert logits.isfinite().all()

    def test_the_score_is_that_of_the_extracted_network(self, make: Make, data: SearchData, tmp_path: Path) -> None:
        module = make()
        fit(module, data, tmp_path, epochs=1, every=1000)
        architecture = module.derive()
        before = digest(module.state_dict())
        score = module.score(architecture)
        assert score == module.score(architecture)
        assert digest(module.state_dict()) == before, "scoring changed the supernet"
        network = module.inherited(architecture)
        for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = None
            norm.reset_running_stats()
        with torch.no_grad():
            for x, _ in module.calibration():
                network.train()(x)
            hits = [(network.eval()(x).argmax(-1) == y).float() for x, y in module.scoring()]
        assert score == pytest.approx(torch.cat(hits).mean().item())
