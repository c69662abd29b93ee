"""One run: notebooks as jobs, their parameters, what a run leaves behind, and its report."""
