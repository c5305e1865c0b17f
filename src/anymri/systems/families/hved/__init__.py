"""HVED family: U-HVED, RA-HVED and XLSTM-HVED, which fuse modalities as a product of Gaussians."""
