"""From RGB-D images to object states and a height map."""
