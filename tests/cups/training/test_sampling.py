"""Step-based sampling."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cups.training.sampling import StepSampler

sizes = st.integers(1, 7)


@settings(max_examples=50)
@given(frames=sizes, batch=sizes, steps=sizes, world=st.integers(1, 3))
def test_step_sampler__every_pass_over_the_ranks_sees_each_frame_once(
    frames: int, batch: int, steps: int, world: int
) -> None:
    draws = [draw for rank in range(world) for draw in StepSampler(frames, batch, steps, 3, 0, rank, world)]
    draws.sort(key=lambda draw: draw.number)
    assert [draw.number for draw in draws] == list(range(batch * steps * world))
    for start in range(0, len(draws) - frames + 1, frames):
        assert sorted(draw.frame for draw in draws[start : start + frames]) == list(range(frames))


@settings(max_examples=50)
@given(frames=sizes, batch=sizes, steps=sizes, first=st.integers(0, 6))
def test_step_sampler__resuming_continues_the_same_sequence(
    frames: int, batch: int, steps: int, first: int
) -> None:
    whole = list(StepSampler(frames, batch, steps, 3))
    rest = StepSampler(frames, batch, steps, 3, first_step=first)
    assert list(rest) == whole[first * batch :]
    assert len(rest) == steps * batch
