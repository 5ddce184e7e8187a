"""The one training and evaluation loop."""
