"""Properties of the depth and pose networks that need no fixture."""

from __future__ import annotations

import pytest
import torch

from refs.spidepth import SQLDepth
from refs.spidepth.networks import PoseNet, SelfQueryDecoder, UNet


@pytest.mark.parametrize("backbone", ["convnextv2_atto", "resnet18"])
def test_sql_depth__shape_and_range(backbone: str) -> None:
    torch.manual_seed(0)
    network = SQLDepth(backbone, patch_size=8, query_nums=16, dec_channels=(32, 32, 16, 16)).eval()
    depth = network(torch.rand(2, 3, 64, 128))
    assert depth.shape == (2, 1, 32, 64)
    assert depth.min() >= 0.01 and depth.max() <= 80.0
    depth.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_unet__odd_sizes_meet_their_skips() -> None:
    features = UNet("resnet18", (16, 16, 8, 8), model_dim=4).eval()(torch.rand(1, 3, 70, 102))
    # Stride 4 rounds 70 x 102 up to 18 x 26; the last block doubles that.
    assert features.shape == (1, 4, 36, 52)


def test_self_query_decoder__bins_cover_the_range_in_order() -> None:
    torch.manual_seed(0)
    decoder = SelfQueryDecoder(8, 4, 6, dim_out=10, min_depth=1.0, max_depth=21.0)
    with torch.no_grad():
        for parameter in decoder.bins_regressor.parameters():
            parameter.zero_()
    centres = decoder.bin_centres(torch.rand(2, 6, 8))
    # Equal widths of 2 from 1 to 21: centres 2, 4, ..., 20.
    torch.testing.assert_close(centres, (2.0 * torch.arange(1, 11)).expand(2, 10))


def test_self_query_decoder__too_few_tokens_are_named() -> None:
    with pytest.raises(ValueError, match="give 4 tokens; between 6"):
        SelfQueryDecoder(8, 4, 6)(torch.rand(1, 8, 8, 8))


def test_sql_depth__mixed_precision_keeps_fine_steps() -> None:
    torch.manual_seed(0)
    network = SQLDepth("resnet18", patch_size=8, query_nums=16, dec_channels=(32, 32, 16, 16)).eval()
    images = torch.rand(1, 3, 64, 128)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = network(images)
    assert mixed.dtype == torch.float32
    # Depth summed in bfloat16 takes a few dozen values only.
    assert len(mixed.unique()) > mixed.numel() / 2
    with torch.no_grad():
        torch.testing.assert_close(mixed, network(images), rtol=0.05, atol=0)


def test_pose_net__names_of_the_published_weights() -> None:
    names = [name for name in PoseNet().state_dict() if not name.startswith("encoder.")]
    layers = ("squeeze.0", "decoder.0.0", "decoder.1.0", "decoder.2")
    assert names == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def test_pose_net__small_motion_at_first() -> None:
    torch.manual_seed(0)
    turn, shift = PoseNet()(torch.rand(2, 6, 64, 128))
    assert turn.shape == shift.shape == (2, 3)
    assert turn.abs().max() < 0.1 and shift.abs().max() < 0.1
