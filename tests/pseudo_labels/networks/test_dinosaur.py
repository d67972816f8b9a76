"""Slot attention and its decoder against the formulas written out, and on regions that slots must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cups.errors import UserError
from pseudo_labels.networks import dinosaur
from pseudo_labels.networks.dinosaur import (
    Dinosaur,
    MLPDecoder,
    SlotAttention,
    attend,
    load_dinosaur,
    save_dinosaur,
    slot_noise,
    token_coordinates,
)
from pseudo_labels.networks.weight_files import save_weights

SHAPE = {"feature_dim": 5, "grid": [3, 4], "num_slots": 3, "slot_dim": 8, "decoder_dim": 16}


def network(**changes: object) -> Dinosaur:
    torch.manual_seed(0)
    return Dinosaur(**{**SHAPE, **changes}).eval()  # type: ignore[arg-type]


def inputs(batch: int = 2, rows: int = 3, columns: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, N, 5), coordinates (B, N, 2) and noise (B, 3, 8)."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(batch, rows * columns, 5, generator=generator)
    coordinates = token_coordinates(rows, columns).flatten(0, 1).expand(batch, -1, -1)
    return features, coordinates, torch.randn(batch, 3, 8, generator=generator)


def test_attend__by_hand() -> None:
    """Two slots with queries 0 and log 3, two tokens with keys 1 and 0 and values 4 and 8.

    Slots share token 0 as (1/4, 3/4) and token 1 as (1/2, 1/2). The first slot's mean over tokens has weights
    (1/4, 1/2) / (3/4), the second's (3/4, 1/2) / (5/4).
    """
    queries = torch.tensor([[[0.0], [np.log(3.0)]]])
    keys, values = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[4.0], [8.0]]])
    updates, attention = attend(queries, keys, values)
    torch.testing.assert_close(attention[0], torch.tensor([[0.25, 0.5], [0.75, 0.5]]))
    torch.testing.assert_close(updates[0, :, 0], torch.tensor([20 / 3, 5.6]))


def test_attend__slots_share_each_token_and_take_a_mean_over_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(2, count, 6, generator=generator) for count in (4, 9))
    updates, attention = attend(queries, keys, torch.full((2, 9, 6), 7.0))
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, 9))
    torch.testing.assert_close(updates, torch.full((2, 4, 6), 7.0))


def test_attend__a_slot_without_tokens_stays_finite() -> None:
    queries = torch.tensor([[[1000.0], [-1000.0]]])
    updates, attention = attend(queries, torch.ones(1, 2, 1), torch.tensor([[[2.0], [4.0]]]))
    assert attention[0, 1].sum() == 0
    torch.testing.assert_close(updates[0, :, 0], torch.tensor([3.0, 3.0]))


def _norm(x: np.ndarray, layer: nn.LayerNorm) -> np.ndarray:
    scaled = (x - x.mean()) / np.sqrt(x.var() + layer.eps)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


def _linear(x: np.ndarray, layer: nn.Module) -> np.ndarray:
    assert isinstance(layer, nn.Linear)
    bias = 0 if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy() @ x + bias


def _gru(x: np.ndarray, h: np.ndarray, cell: nn.GRUCell) -> np.ndarray:
    """Cho et al., 2014, in the order reset, update, new of torch's weights."""
    w_x, w_h, b_x, b_h = (
        getattr(cell, name).detach().numpy().reshape(3, len(h), -1)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    from_x = [w_x[gate] @ x + b_x[gate, :, 0] for gate in range(3)]
    from_h = [w_h[gate] @ h + b_h[gate, :, 0] for gate in range(3)]
    reset, update = (1 / (1 + np.exp(-from_x[gate] - from_h[gate])) for gate in range(2))
    new = np.tanh(from_x[2] + reset * from_h[2])
    return (1 - update) * new + update * h


def slot_attention_by_loops(module: SlotAttention, tokens: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Locatello et al., 2020, algorithm 1, one slot and one token at a time: (N, D), (S, D) -> (S, D)."""
    tokens = np.stack([_norm(token, module.norm_inputs) for token in tokens])
    keys = [_linear(token, module.to_key) for token in tokens]
    values = [_linear(token, module.to_value) for token in tokens]
    for _ in range(module.iterations):
        queries = [_linear(_norm(slot, module.norm_slots), module.to_query) for slot in slots]
        share = np.zeros((len(slots), len(tokens)))
        for n, key in enumerate(keys):
            scores = np.exp([key @ query / np.sqrt(len(query)) for query in queries])
            share[:, n] = scores / scores.sum() + 1e-8
        following = []
        for s, slot in enumerate(slots):
            update = sum(share[s, n] * value for n, value in enumerate(values)) / share[s].sum()
            state = _gru(update, slot, module.gru)
            hidden = np.maximum(_linear(_norm(state, module.norm_mlp), module.mlp[0]), 0)
            following.append(state + _linear(hidden, module.mlp[2]))
        slots = np.stack(following)
    return slots


def test_slot_attention__equals_the_algorithm_by_loops() -> None:
    torch.manual_seed(0)
    module = SlotAttention(4, iterations=3).double()
    for layer in (module.norm_inputs, module.norm_slots, module.norm_mlp):
        nn.init.normal_(layer.weight), nn.init.normal_(layer.bias)
    tokens, slots = torch.randn(2, 6, 4).double(), 3 * torch.randn(2, 3, 4).double()
    found = module(tokens, slots).detach().numpy()
    for number in range(2):
        expected = slot_attention_by_loops(module, tokens[number].numpy(), slots[number].numpy())
        np.testing.assert_allclose(found[number], expected, rtol=1e-6)


def test_dinosaur__slots_follow_the_order_of_their_noise() -> None:
    features, coordinates, noise = inputs()
    one, other = (network()(features, coordinates, noise[:, order]) for order in ([0, 1, 2], [2, 0, 1]))
    torch.testing.assert_close(other.alphas, one.alphas[:, [2, 0, 1]])
    torch.testing.assert_close(other.features, one.features)


def test_dinosaur__tokens_are_a_set_with_coordinates() -> None:
    features, coordinates, noise = inputs()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    for encode_position in (False, True):
        net = network(encode_position=encode_position)
        one = net(features, coordinates, noise)
        other = net(features[:, order], coordinates[:, order], noise)
        torch.testing.assert_close(other.features, one.features[:, order])
        torch.testing.assert_close(other.alphas, one.alphas[:, :, order])


def test_dinosaur__position_tells_equal_features_apart_only_when_asked() -> None:
    _, coordinates, noise = inputs()
    same = torch.ones(2, 12, 5)
    reversed_ = coordinates.flip(1)[:, :6]
    for encode_position in (False, True):
        net = network(encode_position=encode_position)
        one, other = (net.slots(same[:, :6], places, noise) for places in (coordinates[:, :6], reversed_))
        assert torch.allclose(one, other) is not encode_position


def test_dinosaur__slots_without_noise_are_one_slot() -> None:
    features, coordinates, noise = inputs()
    slots = network().slots(features, coordinates, torch.zeros_like(noise))
    torch.testing.assert_close(slots, slots[:, :1].expand_as(slots))


def test_dinosaur__decodes_a_subset_of_tokens() -> None:
    features, coordinates, noise = inputs()
    decoded = torch.tensor([[11, 0, 5], [2, 2, 7]])
    whole, part = (network()(features, coordinates, noise, chosen) for chosen in (None, decoded))
    for name in ("target", "features"):
        expected = torch.stack([getattr(whole, name)[n, decoded[n]] for n in range(2)])
        torch.testing.assert_close(getattr(part, name), expected)


def test_dinosaur__standardizes_what_it_reconstructs() -> None:
    features, coordinates, noise = inputs()
    net = network()
    before = net(features, coordinates, noise)
    mean, std = torch.arange(5.0), torch.arange(1.0, 6.0)
    net.set_statistics(mean, std)
    after = net(features * std + mean, coordinates, noise)
    torch.testing.assert_close(after.target, features)
    torch.testing.assert_close(after.features, before.features)


def decoder() -> MLPDecoder:
    torch.manual_seed(0)
    return MLPDecoder(slot_dim=8, feature_dim=5, hidden_dim=16, layers=3, grid=(3, 4))


def test_decoder__equals_the_broadcast_written_out() -> None:
    """One MLP from slot + position to features and alpha, for each pair; then the alpha-weighted sum."""
    module = decoder()
    slots = torch.randn(1, 3, 8)
    found, alphas = module(slots, token_coordinates(3, 4).flatten(0, 1)[None])
    table = module.positions[0].flatten(1).T
    mlp = nn.Sequential(module.first, *module.middle)
    for n in range(12):
        hidden = [mlp(slots[0, s] + table[n]) for s in range(3)]
        alpha = torch.stack([module.to_alpha(one)[0] for one in hidden]).softmax(dim=0)
        mixed = sum(alpha[s] * module.to_features(hidden[s]) for s in range(3))
        torch.testing.assert_close(alphas[0, :, n], alpha)
        torch.testing.assert_close(found[0, n], mixed)
    torch.testing.assert_close(alphas.sum(dim=1), torch.ones(1, 12))


def test_decoder__alphas_a_few_slots_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module, slots = decoder(), torch.randn(2, 5, 8)
    coordinates = token_coordinates(6, 4).flatten(0, 1).expand(2, -1, -1)
    _, expected = module(slots, coordinates)
    # Two frames, 24 tokens, 16 hidden channels: two slots at a time.
    for elements in (1, 2 * 2 * 24 * 16, 2**27):
        monkeypatch.setattr(dinosaur, "CHUNK_ELEMENTS", elements)
        torch.testing.assert_close(module.alphas(slots, coordinates), expected)


@pytest.mark.parametrize("size", [(3, 4), (6, 8), (5, 9)])
def test_decoder__positions_on_another_grid_are_interpolated(size: tuple[int, int]) -> None:
    module = decoder()
    found = module.position_embeddings(token_coordinates(*size).flatten(0, 1)[None])[0]
    expected = F.interpolate(module.positions, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected[0].flatten(1).T)


def test_masks__are_the_alphas_of_the_whole_grid() -> None:
    net = network()
    features, coordinates, noise = inputs(rows=4, columns=6)
    expected = net(features, coordinates, noise).alphas
    masks = net.masks(features.unflatten(1, (4, 6)), noise)
    assert masks.shape == (2, 4, 6, 3)
    torch.testing.assert_close(masks.flatten(1, 2).transpose(1, 2), expected)


def test_dinosaur__runs_in_mixed_precision() -> None:
    features, coordinates, noise = inputs()
    net = network()
    exact = net(features, coordinates, noise)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(features, coordinates, noise)
    assert mixed.alphas.dtype == torch.float32
    torch.testing.assert_close(mixed.features.float(), exact.features, atol=0.05, rtol=0.05)


def test_slot_noise__depends_on_name_and_seed_alone() -> None:
    one = slot_noise(30, 8, 0, "aachen_000000_000019")
    assert torch.equal(one, slot_noise(30, 8, 0, "aachen_000000_000019"))
    assert not torch.equal(one, slot_noise(30, 8, 1, "aachen_000000_000019"))
    assert not torch.equal(one, slot_noise(30, 8, 0, "aachen_000001_000019"))


def test_dinosaur__two_slots_find_two_regions() -> None:
    """The left and the right half of each image show one of 16 features each; each slot shall take a half."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(16, 16, generator=generator)
    right = torch.arange(4).expand(2, 4) >= 2
    torch.manual_seed(0)
    net = Dinosaur(16, (2, 4), 2, slot_dim=32, decoder_dim=32, decoder_layers=1, encode_position=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    coordinates = token_coordinates(2, 4).flatten(0, 1).expand(16, -1, -1)
    for _ in range(350):
        pairs = torch.rand(16, 16, generator=generator).argsort(dim=1)[:, :2]
        features = kinds[pairs[:, right.long()]]
        result = net(features.flatten(1, 2), coordinates, torch.randn(16, 2, 32))
        optimizer.zero_grad()
        F.mse_loss(result.features, result.target).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    noise = torch.stack([slot_noise(2, 32, 0, str(number)) for number in range(16)])
    slots = net.masks(features, noise).argmax(dim=-1)
    agreement = ((slots == 1) == right).float().mean(dim=(1, 2))
    assert torch.maximum(agreement, 1 - agreement).min() == 1


def test_save_dinosaur__comes_back(tmp_path: Path) -> None:
    net = network()
    net.set_statistics(torch.arange(5.0), torch.full((5,), 2.0))
    save_dinosaur(tmp_path / "dinosaur.pth", net, SHAPE, {"backbone": "texton"})
    loaded, settings = load_dinosaur(tmp_path / "dinosaur.pth")
    assert settings["backbone"] == "texton" and not loaded.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_load_dinosaur__another_network(tmp_path: Path) -> None:
    save_weights(tmp_path / "other.pth", {"a": torch.zeros(1)}, {"network": "CSCMRefineNet"})
    with pytest.raises(UserError, match=r"other.pth: not a DINOSAUR network"):
        load_dinosaur(tmp_path / "other.pth")
