"""Static pictures in one style, and the explorer."""
