"""Heads and losses of CAUSE; `refs.cause` names them all."""
