"""Instances from pixel embeddings and boundaries."""

from __future__ import annotations

import numpy as np

from pseudo_labels.algorithms.embedding_instances import embedding_instances, embedding_steps


def test_embedding_steps__larger_of_right_and_below() -> None:
    embedding = np.zeros((2, 2, 3))
    embedding[:, 1, 2] = (3.0, 4.0)
    assert embedding_steps(embedding).tolist() == [[0, 0, 5], [0, 5, 0]]


def street() -> tuple[np.ndarray, np.ndarray]:
    """Two touching cars of 20 x 20 pixels, embedded 3 apart, and a third of the first one's embedding."""
    things = np.zeros((40, 80), dtype=bool)
    things[10:30, 10:50] = things[10:30, 60:75] = True
    embedding = np.zeros((2, 40, 80))
    embedding[0, :, 30:50] = 3.0
    return embedding, things


def test_embedding_instances__touching_ones_by_embedding_distant_ones_by_place() -> None:
    embedding, things = street()
    ids = embedding_instances(embedding, np.zeros_like(things), things)
    assert ids.max() == 3 and (ids > 0).tolist() == things.tolist()
    first, second, third = ids[20, 15], ids[20, 40], ids[20, 70]
    assert len({first, second, third}) == 3
    assert (ids[10:30, 10:30] == first).all() and (ids[10:30, 30:50] == second).all()


def test_embedding_instances__a_boundary_cuts_and_is_given_back() -> None:
    embedding, things = street()
    boundary = np.zeros_like(things)
    boundary[:, 20] = True
    ids = embedding_instances(embedding, boundary, things)
    assert ids.max() == 4 and ids[20, 15] != ids[20, 25]
    assert (ids > 0).tolist() == things.tolist()


def test_embedding_instances__small_pieces_go_to_their_neighbours() -> None:
    embedding, things = street()
    embedding[1, 14:17, 14:17] = 9.0
    ids = embedding_instances(embedding, np.zeros_like(things), things, min_area=20)
    assert ids.max() == 3 and (ids[14:17, 14:17] == ids[20, 15]).all()
    nothing = embedding_instances(embedding, things, np.zeros_like(things))
    assert not nothing.any() and nothing.dtype == np.uint16
