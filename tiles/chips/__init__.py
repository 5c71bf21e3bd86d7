"""The tiler and the stitcher: a scene is cut into chips, their scores are blended into strips, strips are spooled."""
