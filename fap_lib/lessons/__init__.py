"""What the notebooks teach with: opened lessons, exercises, and questions to prompts and to the study."""
