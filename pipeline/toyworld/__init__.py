"""A generated world of toys on a floor and a shelf: pictures, captions and region features that agree with each other.

Nothing is downloaded. It is what the demonstration trains on and what a pipeline can be tried on before the real data
is there. The truth about every picture is a `Scene`; all else is made from it.

- `scene`: what a scene is, and which relations hold in it, read off the boxes
- `layout`: draws a random scene
- `render` (with `surfaces`): the picture
- `captions`: true English about a scene, with the claims that each caption makes
- `detector`: region features as an object detector would give them
- `tasks`, `task_files`: questions, choices and expressions about a scene, and the data sets of the downstream tasks
- `write`: the files
"""

from pipeline.toyworld.captions import ToyCaption, describe
from pipeline.toyworld.layout import sample_scene
from pipeline.toyworld.render import render
from pipeline.toyworld.scene import PixelBox, Related, Scene, Thing, ToyRelation
from pipeline.toyworld.simulated_features import SimulatedDetector, SimulatedRegions
from pipeline.toyworld.write import ToyWorld, read_scenes, write_world

__all__ = [
    "PixelBox",
    "Related",
    "Scene",
    "SimulatedDetector",
    "SimulatedRegions",
    "Thing",
    "ToyCaption",
    "ToyRelation",
    "ToyWorld",
    "describe",
    "read_scenes",
    "render",
    "sample_scene",
    "write_world",
]
