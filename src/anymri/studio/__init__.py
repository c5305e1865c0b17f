"""The studio: a local web page that shows what each missing modality does to a segmentation."""
