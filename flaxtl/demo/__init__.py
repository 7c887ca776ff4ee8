"""The embedded default: a small pretrained network and the demonstration that needs nothing else."""
