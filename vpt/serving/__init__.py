"""Many saved prompts over one frozen backbone, and the service that answers with them."""
