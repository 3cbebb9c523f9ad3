"""For how many events rows stand."""

from __future__ import annotations

import numpy as np

from droptape.bpf.kinds import all_kinds
from droptape.format.amount import amounts
from droptape.format.tables import TOTALS


def test_retransmits_count_segments_others_weights_and_series_rows() -> None:
    retransmits = np.zeros(3, all_kinds()["retransmits"].table.dtype)
    retransmits["weight"], retransmits["segments"] = (1, 5, 3_000_000_000), (0, 4, 40)
    assert amounts(retransmits).tolist() == [1, 20, 120_000_000_000]
    drops = np.zeros(2, all_kinds()["drops"].table.dtype)
    drops["weight"] = 1, 7
    assert amounts(drops).tolist() == [1, 7]
    assert amounts(np.zeros(2, TOTALS.dtype)).tolist() == [1, 1]
