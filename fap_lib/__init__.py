"""The FAPrompt kit: fine-grained abnormality prompts for zero-shot anomaly detection."""

__version__ = "0.1.0"
