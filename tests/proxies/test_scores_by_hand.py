"""Each score on a network of two layers whose numbers are worked out by hand, in NumPy or by plain autograd."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_nas.errors import InputError
from lightning_nas.proxies.az_nas import az_nas, log_rank_sum
from lightning_nas.proxies.fisher import fisher
from lightning_nas.proxies.grad_norm import grad_norm
from lightning_nas.proxies.grasp import grasp
from lightning_nas.proxies.jacob_cov import jacob_cov
from lightning_nas.proxies.logsynflow import logsynflow
from lightning_nas.proxies.naswot import naswot
from lightning_nas.proxies.plain import plain
from lightning_nas.proxies.size import Macs, Params, depth
from lightning_nas.proxies.snip import snip
from lightning_nas.proxies.swap import swap
from lightning_nas.proxies.synflow import synflow
from lightning_nas.proxies.zen import zen
from lightning_nas.proxies.zico import zico

W1 = np.array([[1.0, -2.0], [3.0, 1.0]])
W2 = np.array([[2.0, -1.0]])
X = np.array([[1.0, 2.0], [2.0, -1.0], [-1.0, -1.0]])
Y = np.array([[1.0], [0.0], [2.0]])
HIDDEN = X @ W1.T  # [[-3, 5], [4, 5], [1, -4]]
ON = HIDDEN > 0  # units of the images: 01, 11, 10
BATCH = torch.tensor(X).float(), torch.tensor(Y).float()


def two_layers() -> nn.Sequential:
    made = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    made[0].weight.data = torch.tensor(W1).float()
    made[2].weight.data = torch.tensor(W2).float()
    return made


def squares(output: Tensor, target: Tensor) -> Tensor:
    """Half the mean of squares: the gradient by an output is its error over N."""
    return (output - target).square().mean() / 2


ERROR = ((HIDDEN * ON) @ W2.T - Y) / 3  # gradient of the loss by the output
G2 = ERROR.T @ (HIDDEN * ON)
G1 = (ERROR @ W2 * ON).T @ X


def test_gradients_worked_out_here_are_those_of_autograd() -> None:
    net = two_layers()
    squares(net(BATCH[0]), BATCH[1]).backward()
    assert np.allclose(net[0].weight.grad, G1)
    assert np.allclose(net[2].weight.grad, G2)


def test_snip_plain_and_norm_of_the_gradient() -> None:
    net = two_layers()
    assert snip(net, BATCH, squares) == pytest.approx(np.abs(W1 * G1).sum() + np.abs(W2 * G2).sum())
    assert plain(net, BATCH, squares) == pytest.approx((W1 * G1).sum() + (W2 * G2).sum())
    norms = [math.sqrt((g**2).sum()) for g in (G1, G2)]
    assert grad_norm(net, BATCH, squares) == pytest.approx(sum(norms))


def test_fisher_squares_what_a_channel_gives_the_loss() -> None:
    """The output of layer 1 before ReLU, and of layer 2; one image may cancel nothing of another."""
    first, second = HIDDEN * (ERROR @ W2 * ON), (HIDDEN * ON) @ W2.T * ERROR
    expected = sum((z**2).mean(0).sum() / 2 for z in (first, second))
    assert fisher(two_layers(), BATCH, squares) == pytest.approx(expected)


def test_fisher_sums_a_channel_over_pixels_before_it_squares() -> None:
    layer = nn.Conv2d(1, 2, 1, bias=False)
    layer.weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    image = torch.tensor([[[[1.0, 3.0]]]])
    # the loss is the sum of 5 times the first pixel of channel 1 and 7 times both pixels of channel 2
    weights = torch.tensor([[[[5.0, 0.0]], [[7.0, 7.0]]]])
    channels = 5.0 * 1.0, 7.0 * (-2.0) + 7.0 * (-6.0)
    assert fisher(layer, (image, image), lambda z, _: (z * weights).sum()) == sum(c**2 / 2 for c in channels)


def test_grasp_is_minus_weight_times_hessian_times_gradient() -> None:
    """The Hessian of all six weights, entry by entry, by autograd."""

    def loss(flat: Tensor) -> Tensor:
        hidden = (BATCH[0] @ flat[:4].view(2, 2).T).relu()
        return squares(hidden @ flat[4:].view(1, 2).T, BATCH[1])

    theta = torch.tensor([*W1.flatten(), *W2.flatten()]).float()
    hessian = torch.autograd.functional.hessian(loss, theta)
    gradient = torch.tensor([*G1.flatten(), *G2.flatten()]).float()
    assert grasp(two_layers(), BATCH, squares) == pytest.approx(-(theta @ hessian @ gradient).item(), rel=1e-5)


def test_synflow_and_its_logarithm_sum_over_paths() -> None:
    """All paths of |W2| |W1| with inputs of one."""
    a, b = np.abs(W1), np.abs(W2)
    by_first, by_second = np.outer(b[0], np.ones(2)), a.sum(1)[None]
    flow = (a * by_first).sum() + (b * by_second).sum()
    assert flow == 2 * (2 * 3 + 1 * 4)  # each layer passes on the whole flow
    assert synflow(two_layers(), BATCH[0]) == pytest.approx(math.log10(flow))
    logs = (a * np.log(by_first + 1)).sum() + (b * np.log(by_second + 1)).sum()
    assert logsynflow(two_layers(), BATCH[0]) == pytest.approx(logs)


def test_naswot_is_the_determinant_of_agreeing_units() -> None:
    """Codes 01, 11, 10: equal to themselves in two units, to the others in 1, 0 and 1."""
    kernel = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    assert np.linalg.det(kernel) == pytest.approx(4)
    assert naswot(two_layers(), BATCH[0]) == pytest.approx(math.log(4))


def test_naswot_of_two_equal_codes_is_minus_infinity() -> None:
    assert naswot(two_layers(), BATCH[0][[0, 0, 1]]) == -math.inf


def test_swap_counts_the_patterns_of_units() -> None:
    """Unit 1 sees images 011, unit 2 sees 110; more images than bits of an integer are no matter."""
    assert swap(two_layers(), BATCH[0]) == len({tuple(column) for column in ON.T.tolist()}) == 2
    x = torch.randn(150, 2, generator=torch.Generator().manual_seed(0))
    wide = nn.Sequential(nn.Linear(2, 40), nn.ReLU())
    signs = (wide[0](x) > 0).T.tolist()
    assert swap(wide, x) == len({tuple(column) for column in signs})


def test_relu6_and_functions_are_watched_as_modules_are() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = two_layers()[0], two_layers()[2]

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.first(x).relu_())
            return out

    clipped = nn.Sequential(two_layers()[0], nn.ReLU6(inplace=True), two_layers()[2])
    assert naswot(Functions(), BATCH[0]) == naswot(clipped, BATCH[0]) == naswot(two_layers(), BATCH[0])


@pytest.mark.parametrize("score", [naswot, swap])
def test_networks_without_rectified_units_are_refused(score: object) -> None:
    with pytest.raises(InputError, match=r"Sequential has no ReLU and no ReLU6; naswot and swap"):
        score(nn.Sequential(nn.Linear(2, 2), nn.SiLU()), BATCH[0])  # type: ignore[operator]


def test_jacob_cov_takes_numpys_correlations() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    first, second = (layer.weight.detach().double().numpy() for layer in (net[0], net[2]))
    on = (net[0](x) > 0).numpy()
    rows = np.array([second.sum(0) * each @ first for each in on])
    values = np.linalg.eigvalsh(np.corrcoef(rows)) + 1e-5
    assert jacob_cov(net, x) == pytest.approx(-(np.log(values) + 1 / values).sum(), rel=1e-3)


def test_jacob_cov_is_not_defined_where_a_row_is_constant() -> None:
    assert math.isnan(jacob_cov(two_layers(), torch.tensor([[-1.0, 0.0], [1.0, 2.0]])))


def test_zico_is_mean_by_deviation_over_parts() -> None:
    net, parts = two_layers(), ([0], [1], [2])
    found = []
    for rows in parts:
        error = (HIDDEN[rows] * ON[rows]) @ W2.T - Y[rows]
        found.append(((error @ W2 * ON[rows]).T @ X[rows], error.T @ (HIDDEN[rows] * ON[rows])))
    expected = 0.0
    for layer in zip(*found, strict=True):
        g = np.array(layer)
        expected += math.log((np.abs(g).mean(0) / g.std(0))[g.std(0) > 0].sum())
    assert zico(net, BATCH, squares, parts=3) == pytest.approx(expected, rel=1e-5)


def test_zico_needs_an_image_for_each_part() -> None:
    with pytest.raises(InputError, match=r"zico: 3 images for 4 parts"):
        zico(two_layers(), BATCH, squares, parts=4)


def test_zen_of_a_linear_network_is_the_norm_of_its_answer_to_the_change() -> None:
    """Weights, images and changes are drawn as the docstring says; nothing is nonlinear, so the images cancel."""
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    rng = torch.Generator().manual_seed(3)
    weight, _ = torch.randn(2, 1, 1, 1, generator=rng), torch.randn(1, 2, generator=rng)
    _, change = (torch.randn(4, 1, 2, 2, generator=rng) for _ in range(2))
    answer = (0.1 * change * weight.view(1, 2, 1, 1)).abs().sum((1, 2, 3)).mean().log().item()
    found = zen(net, torch.zeros(4, 1, 2, 2), torch.Generator().manual_seed(3), repeats=1, gamma=0.1)
    assert found == pytest.approx(answer, rel=1e-4)


def test_zen_takes_the_scale_of_a_batch_norm_back() -> None:
    """A batch norm behind the last convolution divides by what the score multiplies with: one channel, no change."""
    bare = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.AdaptiveAvgPool2d(1))
    normed = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1), nn.AdaptiveAvgPool2d(1))
    found = [zen(net, torch.zeros(64, 1, 8, 8), torch.Generator().manual_seed(0)) for net in (bare, normed)]
    # the two batches differ by the change, and so a little in their variances
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_depth_is_the_longest_path_that_reaches_the_output() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.long = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
            self.short, self.idle = nn.Linear(2, 2), nn.Sequential(*(nn.Linear(2, 2) for _ in range(9)))

        def forward(self, x: Tensor) -> Tensor:
            self.idle(x)
            return self.long(x) + self.short(x)

    assert depth(Branches(), BATCH[0]) == 3
    assert (
        depth(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Flatten()), torch.ones(2, 1, 2, 2))
        == 1
    )
    assert depth(nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(2000))), BATCH[0]) == 2000


def test_size_of_the_two_layers() -> None:
    rng = torch.Generator()
    assert Params()(two_layers(), BATCH, squares, rng) == 6
    assert Macs()(two_layers(), BATCH, squares, rng) == 6


def test_az_nas_of_two_blocks() -> None:
    """Two 1x1 convolutions in a row: entropies by NumPy, the Jacobian of the second is its weight."""
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 1))
    rng = torch.Generator().manual_seed(5)
    weights = [torch.randn(3, width, 1, 1, generator=rng) * (2 / width) ** 0.5 for width in (2, 3)]
    image = torch.randn(4, 2, 3, 3, generator=rng)
    signs = torch.randint(2, (4, 3, 3, 3), generator=rng).double() * 2 - 1
    first = torch.einsum("nchw,dc->ndhw", image, weights[0].flatten(1))
    features = first, torch.einsum("nchw,dc->ndhw", first, weights[1].flatten(1))
    entropies = []
    for feature in features:
        rows = feature.movedim(1, -1).flatten(0, 2).double().numpy()
        values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))
        shares = values / values.sum()
        entropies.append(-(shares * np.log(shares + 1e-8)).sum())
    out = signs.movedim(1, -1).flatten(0, 2).numpy()
    jacobian = (out @ weights[1].flatten(1).double().numpy()).T @ out / len(out)
    largest = np.linalg.svd(jacobian)[1].max()
    found = az_nas(net, torch.zeros(4, 2, 3, 3), torch.Generator().manual_seed(5))
    assert found.expressivity == pytest.approx(sum(entropies), rel=1e-3)
    assert found.progressivity == pytest.approx(entropies[1] - entropies[0], abs=1e-3)
    assert found.trainability == pytest.approx(2 - largest - 1 / (largest + 1e-6), rel=1e-4)
    assert found.complexity == 9 * (2 * 3 + 3 * 3)


def test_az_nas_says_no_to_a_block_that_is_the_identity() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Identity(), nn.Conv2d(2, 2, 3, stride=2))
    assert az_nas(net, torch.zeros(2, 1, 7, 7), torch.Generator()).trainability == -math.inf


def test_log_ranks_are_scipys() -> None:
    from scipy.stats import rankdata

    scores = torch.randint(5, (12, 4), generator=torch.Generator().manual_seed(0)).double()
    expected = sum(np.log(rankdata(column) / 12) for column in scores.numpy().T)
    assert np.allclose(log_rank_sum(scores), expected)
    scores[3, 1] = math.nan
    scores[4, 1] = -math.inf
    assert log_rank_sum(scores)[:, None].isfinite().all()
