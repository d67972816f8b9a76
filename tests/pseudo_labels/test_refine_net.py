"""The refinement networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.refine_net import ConvexUpsampling, CSCMRefineNet


def inputs(height: int, width: int, grid: tuple[int, int], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, 5, *grid, generator=generator),
        torch.randn(batch, 1, height, width, generator=generator),
        torch.rand(batch, 3, height, width, generator=generator),
    ]


@pytest.mark.parametrize(
    ("size", "grid"), [((16, 32), (4, 8)), ((17, 23), (3, 5)), ((1, 1), (1, 1)), ((9, 14), (9, 14))]
)
@pytest.mark.parametrize("network", [CSCMRefineNet, JointRefineNet])
def test_networks__any_size_and_grid(
    network: type[CSCMRefineNet] | type[JointRefineNet], size: tuple[int, int], grid: tuple[int, int]
) -> None:
    net = network(feature_dim=5, num_classes=4, channels=8)
    outputs = net(*inputs(*size, grid))
    channels = {"semantic": 4, "boundary": 1, "embedding": 8}
    assert outputs.keys() <= channels.keys() and "semantic" in outputs
    for name, maps in outputs.items():
        assert maps.shape == (2, channels[name], *size)
        assert maps.isfinite().all()


def test_cscm_refine_net__each_modality_matters() -> None:
    torch.manual_seed(0)
    net = CSCMRefineNet(5, 4, channels=8)
    given = inputs(16, 32, (4, 8))
    before = net(*given)["semantic"]
    for number in range(3):
        changed = [maps.flip(-1) if index == number else maps for index, maps in enumerate(given)]
        assert (net(*changed)["semantic"] - before).abs().max() > 1e-3


def test_cscm_refine_net__a_crop_sees_what_the_whole_sees() -> None:
    """Nothing depends on the size of the image, so training on crops fits use on whole images."""
    torch.manual_seed(0)
    net = CSCMRefineNet(5, 4, channels=8).double()
    given = [maps.double() for maps in inputs(16, 320, (4, 80), batch=1)]
    whole = net(*given)["semantic"]
    part = net(given[0][..., 16:64], *(maps[..., 64:256] for maps in given[1:]))["semantic"]
    torch.testing.assert_close(part[..., 92:100], whole[..., 156:164])


def test_convex_upsampling__keeps_a_constant_and_stays_within_its_input() -> None:
    torch.manual_seed(0)
    upsampling = ConvexUpsampling(3)
    guide = torch.randn(1, 3, 8, 10)
    flat = upsampling(torch.full((1, 3, 4, 5), 2.0), guide)
    torch.testing.assert_close(flat, torch.full((1, 3, 8, 10), 2.0))
    coarse = torch.rand(1, 3, 4, 5)
    fine = upsampling(coarse, guide)
    assert fine.min() >= coarse.min() and fine.max() <= coarse.max()


def test_convex_upsampling__fine_pixels_lie_under_their_coarse_one() -> None:
    upsampling = ConvexUpsampling(1)
    torch.nn.init.zeros_(upsampling.weights.weight)
    with torch.no_grad():
        upsampling.weights.bias.copy_(torch.eye(9)[4] * 50)  # type: ignore[union-attr]  # the centre alone
    coarse = torch.arange(6.0).view(1, 1, 2, 3)
    fine = upsampling(coarse, torch.zeros(1, 1, 4, 6))
    torch.testing.assert_close(fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
