"""The authors' released code: its checkpoints, its outputs, and where it departs from the paper."""
