"""The pipelines on one machine: steps are processes, MLflow and the served model run beside them."""
