"""Augmentation: geometry stays aligned, pasted objects stay what they are, inputs stay untouched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cups.augmentation import (
    MIN_AREA,
    CopyPaste,
    Photometric,
    RandomCrop,
    ResolutionJitter,
    flip_and_resized_crop,
    resize_sample,
)
from cups.config_keys import KEYS
from cups.structures import Sample, boxes_from_masks

SIZE = (48, 96)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinate_sample(size: tuple[int, int] = (96, 192)) -> Sample:
    """A sample whose image holds each pixel's coordinates and whose labels are a function of them."""
    height, width = size
    y = ((torch.arange(height) + 0.5) / height)[:, None].expand(size)
    x = ((torch.arange(width) + 0.5) / width).expand(size)
    image = torch.stack((y, x, (x + y) / 2))
    sem_seg = 1 + (y * height / 16).long() * 16 + (x * width / 16).long()
    masks = torch.stack([sem_seg == label for label in (18, 37, 52)])
    return Sample(image, sem_seg, masks, torch.tensor([0, 1, 2]))


def scene(seed: int, count: int = 3, size: tuple[int, int] = SIZE) -> Sample:
    """Disjoint random objects; each object's box shows one grey level, which encodes its class."""
    rng = generator(seed)
    image = torch.rand((3, *size), generator=rng) * 0.2
    sem_seg = torch.randint(1, 5, size, generator=rng)
    masks, classes = [], []
    lane = size[1] // max(count, 1)
    for index in range(count):
        height = int(torch.randint(3, size[0] // 2, (), generator=rng))
        width = int(torch.randint(3, lane, (), generator=rng))
        top = int(torch.randint(0, size[0] - height, (), generator=rng))
        left = index * lane
        mask = torch.zeros(size, dtype=torch.bool)
        mask[top : top + height, left : left + width] = torch.rand((height, width), generator=rng) < 0.7
        mask[top, left : left + width] = True
        mask[top : top + height, left] = True
        class_id = int(torch.randint(0, 6, (), generator=rng))
        image[:, top : top + height, left : left + width] = grey(class_id)
        sem_seg[mask] = 0
        masks.append(mask)
        classes.append(class_id)
    stacked = torch.stack(masks) if masks else torch.zeros((0, *size), dtype=torch.bool)
    return Sample(image, sem_seg, stacked, torch.tensor(classes, dtype=torch.int64), f"frame{seed}")


def grey(class_id: int) -> float:
    return 0.4 + 0.1 * class_id


def tensors(sample: Sample) -> tuple[Tensor, ...]:
    return sample.image, sample.sem_seg, sample.masks, sample.classes


def copies(samples: list[Sample]) -> list[tuple[Tensor, ...]]:
    return [tuple(t.clone() for t in tensors(sample)) for sample in samples]


def same(left: tuple[Tensor, ...], right: tuple[Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def label_displacement(sample: Sample, size: tuple[int, int] = (96, 192)) -> float:
    """Return how far (source pixels) any label lies outside the 16-pixel cell that it names."""
    y, x = sample.image[0] * size[0], sample.image[1] * size[1]
    top, left = (sample.sem_seg - 1) // 16 * 16, (sample.sem_seg - 1) % 16 * 16
    outside = torch.stack((top - y, y - top - 16, left - x, x - left - 16))
    return float(outside.max())


def copy_paste(max_objects: int = 8, min_side: int = 32, **options: Any) -> CopyPaste:
    """Return the step with CUPS's settings where no others are given."""
    return CopyPaste(max_objects, min_side, **options)


def photometric(blur_probability: float = 0.5, **options: Any) -> Photometric:
    """Return the step with our settings where no others are given."""
    return Photometric(blur_probability, **options)


@pytest.mark.parametrize("seed", range(12))
def test_flip_and_resized_crop__labels_stay_on_the_image(seed: int) -> None:
    sample = coordinate_sample()
    out = flip_and_resized_crop(sample, generator(seed))
    assert out.size == sample.size
    assert label_displacement(out) <= 0.5 + 1e-3
    for mask, class_id in zip(out.masks, out.classes.tolist(), strict=True):
        assert torch.equal(mask, out.sem_seg == (18, 37, 52)[class_id])


def test_flip_and_resized_crop__keeps_the_aspect_ratio() -> None:
    """Upstream (kornia 0.9) cut a 1:2 strip of a 2:1 image and stretched it fourfold (spec 9 A10)."""
    for seed in range(20):
        out = flip_and_resized_crop(coordinate_sample(), generator(seed), flip_probability=0.0)
        share_y = out.image[0, -1, 0] - out.image[0, 0, 0]
        share_x = out.image[1, 0, -1] - out.image[1, 0, 0]
        assert abs(float(share_y - share_x)) < 0.02
        assert 0.69 < float(share_y * share_x) * (96 / 95) * (192 / 191) < 1.01 + 0.01


def test_flip_and_resized_crop__mirror_alone_is_exact() -> None:
    sample = scene(1)
    out = flip_and_resized_crop(sample, generator(), area_scale=(1.0, 1.0), flip_probability=1.0)
    assert same(tensors(out)[:3], tuple(t.flip(-1) for t in tensors(sample)[:3]))


def test_flip_and_resized_crop__drops_what_left_the_image() -> None:
    sample = coordinate_sample()
    masks = torch.zeros((2, *sample.size), dtype=torch.bool)
    masks[0, 0, 0] = True
    masks[1, 40:56, 80:110] = True
    sample = sample.replace(masks=masks, classes=torch.tensor([4, 7]))
    out = flip_and_resized_crop(sample, generator(3), area_scale=(0.5, 0.5), flip_probability=0.0)
    assert out.classes.tolist() == [7]
    assert out.masks.any()


@pytest.mark.parametrize("size", [(48, 96), (60, 120), (96, 192), (131, 262)])
def test_resolution_jitter__labels_stay_on_the_image(size: tuple[int, int]) -> None:
    (out,) = ResolutionJitter((size,))([coordinate_sample()], generator())
    assert out.size == size
    # Half a pixel of the coarser grid, in source pixels, for each of interpolation and rounding.
    assert label_displacement(out) <= 0.5 * max(1.0, 96 / size[0]) + 1e-3


def test_resolution_jitter__one_size_a_batch_from_the_published_list() -> None:
    published = KEYS["AUGMENTATION.RESOLUTIONS"].default
    assert published[0] == (384, 768) and published[-1] == (704, 1408) and len(published) == 11
    small = tuple((16 + 4 * i, 32 + 8 * i) for i in range(5))
    seen = set()
    for seed in range(40):
        out = ResolutionJitter(small)([scene(0), scene(1)], generator(seed))
        assert out[0].size == out[1].size
        seen.add(out[0].size)
    assert seen == set(small)


def test_resolution_jitter__drops_specks() -> None:
    sample = scene(2)
    masks = torch.zeros((2, *SIZE), dtype=torch.bool)
    masks[0, 4:8, 4:8] = True
    masks[1, 20:40, 20:40] = True
    sample = sample.replace(masks=masks, classes=torch.tensor([3, 5]))
    (out,) = ResolutionJitter(((24, 48),))([sample], generator())
    assert out.classes.tolist() == [5], "16 pixels become 4, the other object stays"
    assert int(out.masks[0].sum()) >= MIN_AREA


def test_random_crop__one_size_own_places() -> None:
    batch = [coordinate_sample(), coordinate_sample()]
    out = RandomCrop((0.4, 0.6))(batch, generator(5))
    height, width = out[0].size
    full_height, full_width = batch[0].size
    assert out[0].size == out[1].size and 0.4 * full_height <= height <= 0.6 * full_height
    assert abs(width - height * full_width / full_height) <= 1, "the shape is the image's own"
    assert all(label_displacement(sample) <= 1e-3 for sample in out)
    assert not torch.equal(out[0].image, out[1].image)


def test_random_crop__shares_of_the_height() -> None:
    (out,) = RandomCrop((1.0, 1.0))([scene(0)], generator())
    assert out.size == SIZE
    for heights in ((0.0, 1.0), (0.9, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="shares of the image height"):
            RandomCrop(heights)


def constant(target_size: tuple[int, int] = SIZE) -> Sample:
    """An empty grey scene, semantic 3 everywhere."""
    return Sample(
        torch.full((3, *target_size), 0.1),
        torch.full(target_size, 3),
        torch.zeros((0, *target_size), dtype=torch.bool),
        torch.zeros(0, dtype=torch.int64),
    )


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), counts=st.lists(st.integers(0, 4), min_size=1, max_size=3))
def test_copy_paste__invariants(seed: int, counts: list[int]) -> None:
    batch = [scene(seed * 7 + i, count) for i, count in enumerate(counts)]
    before = copies(batch)
    out = copy_paste(min_side=5, max_objects=4)(batch, None, generator(seed))
    assert all(same(tensors(sample), copy) for sample, copy in zip(batch, before, strict=True))
    for sample, original in zip(out, batch, strict=True):
        assert sample.size == original.size and sample.name == original.name
        assert len(sample.masks) == len(sample.classes)
        assert int(sample.masks.sum(dim=0).max() if len(sample.masks) else 0) <= 1, "masks are disjoint"
        assert float(sample.image.min()) >= 0 and float(sample.image.max()) <= 1
        boxes = boxes_from_masks(sample.masks).long()
        for mask, class_id, (left, top, right, bottom) in zip(
            sample.masks, sample.classes.tolist(), boxes.tolist(), strict=True
        ):
            assert int(mask.sum()) >= MIN_AREA
            torch.testing.assert_close(
                sample.image[:, mask],
                torch.full_like(sample.image[:, mask], grey(class_id)),
                atol=1e-5,
                rtol=0,
            )
            assert (sample.sem_seg[mask] == 0).all()
            inside = mask[top:bottom, left:right]
            assert inside.sum() == mask.sum() and inside[0].any() and inside[-1].any()
            assert inside[:, 0].any() and inside[:, -1].any()


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_copy_paste__sem_seg_is_zero_exactly_where_pixels_were_pasted(seed: int) -> None:
    (out,) = copy_paste(min_side=2, min_visible=0.0, min_area=1)([constant()], [scene(seed)], generator(seed))
    pasted = out.masks.any(dim=0)
    assert pasted.any()
    assert torch.equal(out.sem_seg, torch.where(pasted, 0, 3))
    assert torch.equal(out.image[0] != constant().image[0], pasted)


def test_copy_paste__class_belongs_to_the_pasted_object() -> None:
    """Upstream filtered masks by size but not classes: the only large object got other classes (9 A4)."""
    size = (64, 128)
    masks = torch.zeros((4, *size), dtype=torch.bool)
    for index in range(3):
        masks[index, 2:8, 10 * index : 10 * index + 6] = True
    masks[3, 20:60, 60:110] = True
    source = constant(size).replace(masks=masks, classes=torch.tensor([3, 1, 2, 7]))
    for seed in range(20):
        (out,) = copy_paste()([constant(size)], [source], generator(seed))
        assert len(out.classes) >= 1
        assert out.classes.tolist() == [7] * len(out.classes)


def test_copy_paste__sources_are_not_edited_when_they_are_the_targets() -> None:
    """Upstream pasted into the tensors it was still copying from: 22 of 40 runs changed a source (9 A5)."""
    batch = [scene(seed, 4) for seed in range(3)]
    before = copies(batch)
    for seed in range(40):
        out = copy_paste(min_side=3)(batch, batch, generator(seed))
        for sample in out:
            sample.image.zero_(), sample.sem_seg.zero_(), sample.masks.zero_(), sample.classes.zero_()
    assert all(same(tensors(sample), copy) for sample, copy in zip(batch, before, strict=True))


def test_copy_paste__occluded_object_gets_the_box_of_its_rest() -> None:
    """Upstream kept the box from before the paste (9 A5): here 20 of 30 columns remain."""
    size = (40, 80)
    target = constant(size)
    mask = torch.zeros((1, *size), dtype=torch.bool)
    mask[0, :, 30:60] = True
    target = target.replace(masks=mask, classes=torch.tensor([2]))
    block = torch.zeros((1, 40, 40), dtype=torch.bool)
    block[0] = True
    source = Sample(
        torch.full((3, 40, 40), 0.9), torch.zeros((40, 40), dtype=torch.int64), block, torch.tensor([5])
    )
    paste = copy_paste(max_objects=1, scale_range=(1.0, 1.0), min_visible=0.0)
    for seed in range(10):
        (out,) = paste([target], [source], generator(seed))
        pasted = out.masks[out.classes == 5][0]
        left = int(torch.nonzero(pasted.any(dim=0))[0])
        for rest in out.masks[out.classes == 2]:
            expected = [(x, True) for x in range(30, 60) if not left <= x < left + 40]
            columns = torch.nonzero(rest.any(dim=0)).flatten().tolist()
            assert columns == [x for x, _ in expected]
            assert boxes_from_masks(rest[None])[0, ::2].tolist() == [columns[0], columns[-1] + 1]


def test_copy_paste__the_last_row_and_column_are_copied() -> None:
    """Upstream's crop left out the last row and column of the source box (9 A5)."""
    block = torch.zeros((1, 60, 60), dtype=torch.bool)
    block[0, 10:50, 5:45] = True
    source = Sample(
        torch.rand((3, 60, 60)), torch.zeros((60, 60), dtype=torch.int64), block, torch.tensor([1])
    )
    paste = copy_paste(max_objects=1, scale_range=(1.0, 1.0), flip_probability=0.0)
    (out,) = paste([constant((100, 100))], [source], generator())
    assert int(out.masks[0].sum()) == 40 * 40
    pixels = out.image[:, out.masks[0]].reshape(3, 40, 40)
    torch.testing.assert_close(pixels, source.image[:, 10:50, 5:45])


def test_copy_paste__mostly_hidden_object_is_dropped() -> None:
    size = (40, 40)
    mask = torch.zeros((2, *size), dtype=torch.bool)
    mask[0, :, 1:31] = True
    mask[1, :, 35:40] = True
    target = constant(size).replace(masks=mask, classes=torch.tensor([2, 4]))
    block = torch.ones((1, 40, 34), dtype=torch.bool)
    source = Sample(
        torch.rand((3, 40, 34)), torch.zeros((40, 34), dtype=torch.int64), block, torch.tensor([5])
    )
    paste = copy_paste(max_objects=1, scale_range=(1.0, 1.0))
    hidden = 0
    for seed in range(12):
        (out,) = paste([target], [source], generator(seed))
        place = torch.nonzero(out.masks[out.classes == 5][0].any(dim=0)).flatten()
        left_over = sum(not place[0] <= x <= place[-1] for x in range(1, 31))
        assert (2 in out.classes.tolist()) == (left_over >= 3), "a tenth of 30 columns"
        hidden += left_over < 3
    assert hidden


def test_copy_paste__vanishing_object_is_tried_again() -> None:
    """Upstream gave up the augmentation of the whole batch when one scaled mask was empty (9 A5)."""
    mask = torch.zeros((2, 64, 128), dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 63, 40] = True
    mask[1, 10:50, 60:100] = True
    source = constant((64, 128)).replace(masks=mask, classes=torch.tensor([0, 1]))
    paste = copy_paste(max_objects=4, scale_range=(0.25, 0.25))
    for seed in range(20):
        out = paste([constant((64, 128))] * 2, [source], generator(seed))
        assert all(len(sample.classes) and (sample.classes == 1).all() for sample in out)


def test_copy_paste__object_that_always_vanishes_ends() -> None:
    mask = torch.zeros((1, 64, 128), dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 63, 127] = True
    source = constant((64, 128)).replace(masks=mask, classes=torch.tensor([0]))
    (out,) = copy_paste()([constant()], [source], generator())
    assert same(tensors(out), tensors(constant()))


def test_copy_paste__object_larger_than_the_image_is_cut() -> None:
    (out,) = copy_paste(max_objects=1, scale_range=(1.5, 1.5), min_side=2)(
        [constant((8, 12))], [scene(3, 1)], generator(1)
    )
    assert out.size == (8, 12)


@pytest.mark.parametrize("samples", [[], [constant()], [constant(), constant()]])
def test_copy_paste__nothing_to_paste_returns_the_batch(samples: list[Sample]) -> None:
    out = copy_paste()(samples, None, generator())
    assert len(out) == len(samples)
    assert all(same(tensors(a), tensors(b)) for a, b in zip(out, samples, strict=True))


def test_copy_paste__an_instance_map_without_background_is_a_source() -> None:
    """Upstream took the smallest id for background, and gave a full-frame mask no box (9 A6)."""
    source = constant((40, 80)).replace(
        masks=torch.ones((1, 40, 80), dtype=torch.bool), classes=torch.tensor([6])
    )
    (out,) = copy_paste(scale_range=(0.5, 0.5))([constant((40, 80))], [source], generator())
    assert set(out.classes.tolist()) == {6}


def test_copy_paste__pastes_up_to_max_objects() -> None:
    paste = copy_paste(max_objects=3, min_side=2, scale_range=(0.5, 0.5), min_visible=0.0, min_area=1)
    counts = {len(paste([constant((200, 400))], [scene(1)], generator(s))[0].classes) for s in range(60)}
    assert counts == {1, 2, 3}


@pytest.mark.parametrize(
    "arguments", [{"max_objects": 0}, {"scale_range": (0.0, 1.0)}, {"scale_range": (2, 1)}]
)
def test_copy_paste__impossible_settings(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        copy_paste(**arguments)  # type: ignore[arg-type]


def test_photometric__values_stay_in_range_and_labels_stay() -> None:
    sample = scene(4)
    sample = sample.replace(image=(sample.image * 3).round().clamp(0, 1))
    before = copies([sample])[0]
    for seed in range(30):
        out = photometric()(sample, generator(seed))
        assert out.image.shape == sample.image.shape and out.image.dtype == torch.float32
        assert float(out.image.min()) >= 0 and float(out.image.max()) <= 1
        assert same(tensors(out)[1:], tensors(sample)[1:])
    assert same(tensors(sample), before)


def test_photometric__leaves_some_images_sharp() -> None:
    """Upstream blurred every training image and no evaluation image (9 A14)."""
    only_blur = photometric(jitter_probability=0.0, grayscale_probability=0.0)
    sample = scene(5, 1)
    sharp = sum(torch.equal(only_blur(sample, generator(s)).image, sample.image) for s in range(100))
    assert 30 < sharp < 70


def test_photometric__blur_is_a_normalised_gaussian_of_the_kernel_size() -> None:
    point = torch.zeros((3, 21, 21))
    point[:, 10, 10] = 1.0
    blur = photometric(
        blur_probability=1.0, sigma=(2.0, 2.0), jitter_probability=0.0, grayscale_probability=0.0
    )
    out = blur(constant((21, 21)).replace(image=point), generator()).image
    assert torch.nonzero(out[0]).min() == 7 and torch.nonzero(out[0]).max() == 13
    torch.testing.assert_close(out.sum(dim=(1, 2)), torch.ones(3))
    torch.testing.assert_close(out[0, 10, 11] / out[0, 10, 10], torch.tensor(2.718281828 ** (-1 / 8)))


def test_photometric__grayscale_has_equal_channels() -> None:
    gray = photometric(blur_probability=0.0, jitter_probability=0.0, grayscale_probability=1.0)
    out = gray(coordinate_sample(), generator()).image
    assert torch.equal(out[0], out[1]) and torch.equal(out[1], out[2])


STEPS: dict[str, Callable[[list[Sample], torch.Generator], list[Sample]]] = {
    "crop": lambda batch, rng: [flip_and_resized_crop(sample, rng) for sample in batch],
    "copy_paste": lambda batch, rng: copy_paste(min_side=4)(batch, None, rng),
    "jitter": ResolutionJitter(tuple((20 + i, 40 + 2 * i) for i in range(30))),
    "photometric": lambda batch, rng: [photometric()(sample, rng) for sample in batch],
    "random_crop": RandomCrop((0.3, 0.6)),
}


@pytest.mark.parametrize("step", STEPS)
def test_augmentation__depends_on_the_generator_alone(step: str) -> None:
    def run(seed: int, global_seed: int) -> list[tuple[Tensor, ...]]:
        torch.manual_seed(global_seed)
        state = torch.random.get_rng_state()
        batch = [scene(0), scene(1)]
        before = copies(batch)
        out = STEPS[step](batch, generator(seed))
        assert torch.equal(torch.random.get_rng_state(), state), "no global randomness"
        assert all(same(tensors(sample), copy) for sample, copy in zip(batch, before, strict=True))
        return [tensors(sample) for sample in out]

    first, again = run(1, 0), run(1, 99)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    others = [run(seed, 0) for seed in range(2, 8)]
    assert any(
        a[0].shape != b[0].shape or not torch.equal(a[0], b[0])
        for other in others
        for a, b in zip(first, other, strict=True)
    )


@pytest.mark.parametrize("step", STEPS)
def test_augmentation__samples_without_instances(step: str) -> None:
    out = STEPS[step]([constant()], generator())
    assert out[0].masks.shape == (0, *out[0].size) and out[0].classes.shape == (0,)
    assert STEPS[step]([], generator()) == []


def test_resize_sample__same_size_is_unchanged() -> None:
    sample = scene(0)
    assert same(tensors(resize_sample(sample, SIZE)), tensors(sample))
