"""anymri: brain-tumour segmentation from whichever of T1, T1c, T2 and FLAIR a patient has."""

__version__ = "0.1.0"
