"""From the model hub to a rollout: steps, their Kubeflow pipelines, and the embedded model's recipe."""
