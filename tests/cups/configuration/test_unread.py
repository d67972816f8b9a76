"""Which keys a script does not read; `tests/test_entry_scripts.py` watches that the table is true."""

from __future__ import annotations

import pytest

from cups.config import STAGE3_FLAGS, add_config_arguments, make_parser, parse_args
from cups.config_keys import KEYS
from cups.configuration.unread import UNREAD, unread


def test_unread__keys_and_starts_of_keys() -> None:
    given = ["MODEL.FREEZE_BACKBONE", "TRAINING.BATCH_SIZE", "VALIDATION.USE_CRF", "MODEL.FREEZE_BACKBONE"]
    assert unread("train_self.py", given) == ["MODEL.FREEZE_BACKBONE", "VALIDATION.USE_CRF"]
    assert unread("val.py", ["TRAINING.SGD.MOMENTUM", "DATA.ROOT"]) == ["TRAINING.SGD.MOMENTUM"]
    assert unread("train_hybrid.py", KEYS) == [], "it runs both stages"


def test_unread__every_entry_stands_for_a_key() -> None:
    for script, entries in UNREAD.items():
        assert all(any(key.startswith(entry) for key in KEYS) for entry in entries), script


def test_parse_args__tells_of_a_key_without_effect(caplog: pytest.LogCaptureFixture) -> None:
    """Stage 3 took FREEZE_BACKBONE, did not read it, and said nothing."""
    parser = make_parser("")
    add_config_arguments(parser, STAGE3_FLAGS, "train_self.py")
    parse_args(parser, ["MODEL.FREEZE_BACKBONE", "False", "TRAINING.BATCH_SIZE", "2"])
    assert caplog.messages == ["MODEL.FREEZE_BACKBONE: no effect, train_self.py does not read it"]
