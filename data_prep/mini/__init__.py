"""The kit's own small world: generated images with exact defect masks, and a small CLIP taught on them.

canvas -> textures, objects, organs (normal images) -> defects -> generator (one image) ->
benchmark (datasets on disk) and captions -> pretrain (the mini CLIP).
"""
