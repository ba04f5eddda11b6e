"""Alerts: rules over what the kit measures, told to people once."""

from asgi_errorkit.alerts.alerts import Alerts
from asgi_errorkit.alerts.channels import ThroughApprise, Webhook, is_signed
from asgi_errorkit.alerts.finding import ALERT_TYPES, Finding
from asgi_errorkit.alerts.rules import Figures, Objective, Thresholds
from asgi_errorkit.alerts.timing import Silence, Timing

__all__ = [
    "ALERT_TYPES",
    "Alerts",
    "Figures",
    "Finding",
    "Objective",
    "Silence",
    "Thresholds",
    "ThroughApprise",
    "Timing",
    "Webhook",
    "is_signed",
]
