"""The refinement networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pseudo_labels.joint_refine_net import JointRefineNet
from pseudo_labels.refine_net import SIDES, CSCMRefineNet, at_pixels, box_mean


def inputs(height: int, width: int, grid: tuple[int, int], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, 5, *grid, generator=generator),
        torch.randn(batch, 1, height, width, generator=generator),
        torch.rand(batch, 3, height, width, generator=generator),
    ]


def fitted(net: CSCMRefineNet) -> CSCMRefineNet:
    """Return the network with random weights where it starts at zero."""
    for parameter in net.semantic.parameters():
        torch.nn.init.normal_(parameter)
    return net


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
    net = fitted(CSCMRefineNet(5, 4, channels=8))
    given = inputs(16, 32, (4, 8))
    before = net(*given)["semantic"]
    for number in range(3):
        changed = [maps.flip(-1) if index == number else maps for index, maps in enumerate(given)]
        assert (net(*changed)["semantic"] - before).abs().max() > 1e-3


def test_cscm_refine_net__a_crop_sees_what_the_whole_sees() -> None:
    """Nothing depends on the size of the image, so training on crops fits use on whole images."""
    torch.manual_seed(0)
    net = fitted(CSCMRefineNet(5, 4, channels=8))
    given = inputs(16, 320, (4, 80), batch=1)
    whole = net(*given)["semantic"]
    part = net(given[0][..., 16:64], *(maps[..., 64:256] for maps in given[1:]))["semantic"]
    torch.testing.assert_close(part[..., 92:100], whole[..., 156:164], rtol=1e-4, atol=1e-4)


def test_cscm_refine_net__chosen_pixels_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    given, pixels = inputs(12, 20, (3, 5)), torch.tensor([0, 19, 20, 131, 239])
    for network in (CSCMRefineNet, JointRefineNet):
        net = fitted(network(5, 4, channels=8))  # type: ignore[arg-type]
        whole = net(*given)["semantic"].flatten(2)[..., pixels]
        torch.testing.assert_close(net(*given, pixels)["semantic"], whole, rtol=1e-4, atol=1e-4)


def test_cscm_refine_net__starts_as_its_discriminants() -> None:
    """Before the first step logits are linear in the context, whatever the other weights."""
    torch.manual_seed(0)
    net, given = CSCMRefineNet(5, 4, channels=8), inputs(8, 16, (8, 16))
    channels = net.trunk.context_channels
    weights, biases = torch.randn(4, channels), torch.randn(4)
    net.semantic.set_start(weights, biases)
    context = net.trunk.context(*given)
    assert channels == len(SIDES) * 9 and context.shape == (2, channels, 8, 16)
    expected = torch.einsum("kc,bchw->bkhw", weights, context) + biases.view(1, -1, 1, 1)
    torch.testing.assert_close(net(*given)["semantic"], expected, rtol=1e-4, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in net.semantic.start.parameters())


def test_box_mean__equals_plain_loops() -> None:
    maps = torch.randn(2, 3, 5, 9)
    for side in (1, 3, 7):
        found, half = box_mean(maps, side), side // 2
        for y, x in ((0, 0), (2, 4), (4, 8)):
            part = maps[..., max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
            torch.testing.assert_close(found[..., y, x], part.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_at_pixels__as_the_whole_map_is_interpolated() -> None:
    maps = torch.randn(2, 3, 4, 7)
    whole = at_pixels(maps, (13, 20), None).flatten(2)
    torch.testing.assert_close(at_pixels(maps, (13, 20), torch.arange(260)), whole)
