"""How well labelers agree on thumbs: counted by hand, and against Krippendorff's alpha as it is computed from a table."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from heedful.feedback.thumbs import agreement_with_others, thumb_agreement
from heedful.maths.agreement import krippendorff_alpha
from heedful.records import Thumb


def thumbs(**said: str) -> list[Thumb]:
    """``ann="+-"``: up for the first completion of prompt p, down for the second; a dot for none."""
    return [Thumb("p", name, f"p:{place}", mark == "+") for name, marks in said.items() for place, mark in enumerate(marks) if mark != "."]


SAID = thumbs(ann="+-", ben="++", cid="+-")


def test_agreement_is_counted_by_hand() -> None:
    found = thumb_agreement(SAID)
    # ann and cid are alike twice of two, either of them and ben once of two.
    assert (found.labelers, found.prompts, found.pairs, found.agreement) == (3, 1, 6, pytest.approx(4 / 6))
    assert found.low <= found.agreement <= found.high
    assert (found.tau_b, found.w, found.alert) == (None, None, False)
    assert "67% of 6 shared thumbs" in found.sentence
    assert "published" not in found.sentence


def test_each_is_held_against_most_of_the_others() -> None:
    found = agreement_with_others(SAID)
    # Of the second completion ann and cid find the others divided; ben stands against both.
    assert {name: (share.estimate, n) for name, (share, n) in found.items()} == {"ann": (1, 1), "ben": (0.5, 2), "cid": (1, 1)}
    assert all(share.low < share.estimate < share.high or share.estimate == 1 for share, _ in found.values())


def test_a_repeat_is_no_voice_and_nobody_alone_agrees() -> None:
    again = [Thumb("p", "ben", f"p:{n}", False, purpose="repeat") for n in range(2)]
    assert thumb_agreement([*SAID, *again]) == thumb_agreement(SAID)
    assert agreement_with_others([*SAID, *again]) == agreement_with_others(SAID)
    alone = thumbs(ann="+-")
    assert (thumb_agreement(alone).pairs, thumb_agreement(alone).alpha) == (0, None)
    assert "not known" in thumb_agreement(alone).sentence
    assert agreement_with_others(alone)["ann"][1] == 0
    assert thumb_agreement([]).pairs == 0


def test_alpha_is_krippendorffs_and_of_guesses_about_nothing() -> None:
    chance = Random(3)
    table = np.array([[chance.choice([0.0, 1.0, 1.0, np.nan]) for _ in range(400)] for _ in range(5)])
    said = [
        Thumb(f"p{unit // 4}", f"l{labeler}", f"c{unit}", bool(up))
        for labeler, row in enumerate(table)
        for unit, up in enumerate(row)
        if up == up
    ]
    found = thumb_agreement(said)
    assert found.alpha == pytest.approx(krippendorff_alpha(table, "nominal"))
    alpha = found.intervals["alpha"]
    assert alpha
    assert -0.15 < alpha["low"] < 0 < alpha["high"] < 0.15  # type: ignore[operator]
    assert all(share.low < share.estimate < share.high for share, _ in agreement_with_others(said).values())
