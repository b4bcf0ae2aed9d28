"""A generated world of toys on a floor and a shelf: pictures, captions and region features that agree with each other.

Modules here may import `parsers.command`, `shards`, `pipeline.detectors` and `pipeline.files`. Nothing is downloaded.
Start reading at `scene`: the truth about every picture is a `Scene`, and everything else is made from it.

- `scene` says what a scene is, and which relations hold between its boxes.
- `layout` draws a random scene, and `render` (with `surfaces`) the picture of it.
- `captions` says true sentences about a scene, with the claims that each sentence makes.
- `simulated_features` gives region features as an object detector would; `network`, `training`, `train_detector` and
  `recall` are a detector that really looks at the pictures.
- `tasks` makes questions, choices and expressions about a scene, and `task_files` data sets for the downstream tasks.
- `suite` draws twin pictures with captions that are true of one and false of the other.
- `write` puts it all into files.
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
