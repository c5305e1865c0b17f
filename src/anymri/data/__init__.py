"""Data: images and their formats, cases and cohorts on disk, preprocessing, the cache and augmentation of patches."""
