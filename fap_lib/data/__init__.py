"""Datasets as lists of records, their images and masks, and their CLIP features on disk."""
