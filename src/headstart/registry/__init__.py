"""MLflow models, the model registry, and names like `models:/reviews@champion`."""

