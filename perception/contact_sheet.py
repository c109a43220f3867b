"""A contact sheet: images of a data set with their labels, to look at before training on them."""

from __future__ import annotations

import numpy as np

from perception.coco import CocoDataset
from perception.drawing import CROWD, Image, class_colour, draw_box, enlarged, side_by_side, titled


def contact_sheet(dataset: CocoDataset, most: int = 12, columns: int = 4, scale: int = 2) -> Image:
    """Images spread evenly over the set, each with its labelled boxes.

    Args:
        dataset: whose images.
        most: so many at most; the views of a scene stand side by side.
        columns: images in a row.
        scale: of each image.

    Returns:
        (height, width, 3) uint8 RGB; boxes in their class's colour, what is marked ``iscrowd`` (a
        detection there is neither asked for nor wrong) in yellow.
    """
    scenes = dataset.scenes()
    views = max((len(scene) for scene in scenes), default=1)
    count = max(1, min(len(scenes), most // views))
    chosen = np.unique(np.linspace(0, len(scenes) - 1, count).round().astype(int))
    indices = [index for number in chosen.tolist() for index in scenes[number]]
    return side_by_side([_labelled(dataset, index, scale) for index in indices], 6, columns)


def _labelled(dataset: CocoDataset, index: int, scale: int) -> Image:
    entry = dataset.images[index]
    labels = dataset.annotations.get(int(entry["id"]), [])
    image = enlarged(dataset.frame(index).rgb, scale)
    crowds = [label for label in labels if label.get("iscrowd")]
    # Crowds first: what is asked for lies above them.
    for label in crowds:
        draw_box(image, label["bbox"], CROWD, scale, "crowd")
    for label in labels:
        if not label.get("iscrowd"):
            name = dataset.classes[int(label["category_id"]) - 1]
            draw_box(image, label["bbox"], class_colour(name), scale, name)
    counted = f"{len(labels) - len(crowds)} objects" + (f", {len(crowds)} crowd" if crowds else "")
    return titled(image, f"{entry['scene']} {entry['camera']}: {counted}")
