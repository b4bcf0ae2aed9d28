"""Twin pictures: each of two captions is true of one picture and false of the other.

Modules here may import `scene`, `captions` and `layout` of `pipeline.toyworld`. Start reading at `sample_twins` in
`twins`; `truth` says whether a caption is true of a scene, and `changes` turns a caption into another one.
"""
