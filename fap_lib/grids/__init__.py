"""A grid of runs: its plan, its jobs, Snakemake, and the paper's tables, obtained against reported."""
