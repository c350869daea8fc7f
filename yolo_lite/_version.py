"""The version, by itself: what asks for it need not load anything else."""

__version__ = "0.1.0"
