"""What is right in the exercises, and hints in steps: a module a notebook, `EXERCISES` by number."""
