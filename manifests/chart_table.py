"""The table of the chart's values, in values.yaml's order."""

from manifests.chart_predictor import PREDICTOR
from manifests.chart_settings import settings
from manifests.chart_surroundings import NAMESPACE, SURROUNDINGS
from manifests.chart_values import Value


def values() -> list[Value]:
    """All values."""
    return [*NAMESPACE, *PREDICTOR, *settings(), *SURROUNDINGS]
