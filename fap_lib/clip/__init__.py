"""The frozen CLIP: its two towers, loading its weights, and the mini CLIP that ships with the kit."""
