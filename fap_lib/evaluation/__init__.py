"""From predictions to scores, maps and metrics, and what learned prompts are measured against."""
