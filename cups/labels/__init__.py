"""Label files of any tool: COCO panoptic sets, maps of ids, and what their numbers mean."""
