"""Objects by height alone."""

from __future__ import annotations

import numpy as np

from perception.segmenter import DepthSegmenter
from robot.interface import Detector
from tests.perception.blocks import Block, look

APART = [Block((0.45, -0.1), (0.05, 0.04, 0.05)), Block((0.55, 0.12), (0.04, 0.06, 0.03))]


def test_what_stands_apart_gets_the_box_it_fills():
    frame, truth = look(APART)
    segmenter = DepthSegmenter()
    assert isinstance(segmenter, Detector)
    found = segmenter.detect(frame)
    assert len(found) == 2

    def of(detections):
        return np.array(sorted(d.box_xywh_px for d in detections))

    # The lowest centimetre of a side counts as table.
    np.testing.assert_allclose(of(found), of(truth), atol=8.0)
    assert segmenter.detect(frame, 1.5) == []


def test_what_touches_is_one_region():
    touching = [Block((0.5, 0.0), (0.05, 0.05, 0.05)), Block((0.5, 0.05), (0.05, 0.05, 0.05))]
    assert len(DepthSegmenter().detect(look(touching)[0])) == 1


def test_the_arm_and_what_it_hides_behind_is_no_object():
    arm = Block((0.55, 0.12), (0.05, 0.05, 0.4))
    assert len(DepthSegmenter().detect(look([APART[0], arm])[0])) == 1


def test_nothing_on_the_table_gives_nothing():
    frame, _ = look([])
    assert DepthSegmenter().detect(frame) == []
    frame.depth_m[:] = np.nan
    assert DepthSegmenter().detect(frame) == []
