"""Tuned models where they are used: many over one frozen backbone, a service, and files of their own."""
