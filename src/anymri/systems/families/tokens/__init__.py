"""What mmFormer and IM-Fuse share: blocks, objective and names in their references' checkpoints."""
